"""What a run starts from and what it reads back: what changed, is damaged or missing is named in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest

import cascade_jax
from cascade_jax.bundle import MODEL_FILE
from cascade_jax.commands import same_run, train
from cascade_jax.data.case import CaseError
from cascade_jax.phantoms import simulated
from launch.configs import emidec
from tests.training.test_crossval import silent, tiny_config

ROOT = Path(__file__).parents[2]
_HOLDER = """
import sys, time
from pathlib import Path
from cascade_jax.commands import same_run, train
with train.claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def first_start(tmp_path_factory):
    """A cohort, and a working folder in which stage one is trained."""
    folder = tmp_path_factory.mktemp("first")
    simulated.write_cohort(folder / "cohort", 4, 0, field_of_view_mm=90)
    train.run_training(tiny_config(folder / "cohort", stages=(1,)), folder / "run", silent)
    return folder


@pytest.fixture(scope="module")
def finished_run(first_start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(first_start, folder, dirs_exist_ok=True)
    train.run_training(tiny_config(folder / "cohort"), folder / "run", silent)
    return folder


@pytest.fixture
def stopped(first_start, tmp_path):
    shutil.copytree(first_start, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def finished(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path, dirs_exist_ok=True)
    return tmp_path


def go_on(folder, **changes):
    return train.run_training(tiny_config(folder / "cohort", **changes), folder / "run", silent)


def refusal(folder, **changes):
    """The one line with which the next start stops; nothing that the run has made is touched."""

    def made():
        files = (path for path in (folder / "run").rglob("*") if path.is_file())
        # One says where the cohort lies, the other when the run was started.
        return {path: path.read_bytes() for path in files if path.name not in ("config.json", "run.json")}

    before = made()
    with pytest.raises(CaseError) as error:
        go_on(folder, **changes)
    assert "\n" not in str(error.value)
    assert before == made()
    return str(error.value)


def edit_image(folder, name="Case_N003"):
    path = folder / "cohort" / name / "Images" / f"{name}.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(image.get_fdata() + 1, image.affine, image.header), path)
    return f"{name}/Images/{name}.nii.gz"


def test_an_image_edited_between_two_starts_is_named(stopped):
    changed = edit_image(stopped)
    line = refusal(stopped)
    assert line.startswith(f"{stopped / 'cohort'}: is not what {stopped / 'run'} was trained on; changed: {changed};")


def test_an_image_edited_after_the_last_start_is_named_too(finished):
    assert "nothing was left to do" in go_on(finished)
    assert edit_image(finished) in refusal(finished)


def test_a_case_more_or_less_is_named(stopped):
    shutil.copytree(stopped / "cohort" / "Case_P001", stopped / "cohort" / "Case_P009")
    assert "Case_P009/Contours/Case_P001.nii.gz, Case_P009/Images/Case_P001.nii.gz;" in refusal(stopped)


def test_many_changes_are_counted(stopped):
    for name in ("Case_N003", "Case_P001", "Case_P002", "Case_P004"):
        shutil.rmtree(stopped / "cohort" / name)
    simulated.write_cohort(stopped / "others", 4, 1, field_of_view_mm=90)
    shutil.copytree(stopped / "others", stopped / "cohort", dirs_exist_ok=True)
    assert " more; use another" in refusal(stopped)


def test_a_cohort_that_was_moved_or_copied_is_the_same(stopped):
    (stopped / "cohort").rename(stopped / "elsewhere")
    shutil.copytree(stopped / "elsewhere", stopped / "cohort", copy_function=shutil.copy)  # with other times
    shutil.rmtree(stopped / "elsewhere")
    go_on(stopped, stages=(1,))
    (stopped / "cohort").rename(stopped / "elsewhere")
    config = tiny_config(stopped / "elsewhere", stages=(1,))
    assert "Stage one is trained" in train.run_training(config, stopped / "run", silent)
    assert json.loads((stopped / "run" / "config.json").read_text())["data"]["root"] == str(stopped / "elsewhere")


def test_the_order_in_which_a_disk_lists_its_files_changes_no_bit(finished_run, tmp_path, monkeypatch):
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(sorted(iterdir(folder), reverse=True)))
    shutil.copytree(finished_run / "cohort", tmp_path / "cohort")
    go_on(tmp_path)
    for name in ("folds.json", "tables.json"):
        assert (tmp_path / "run" / name).read_text() == (finished_run / "run" / name).read_text()
    expected, actual = (cascade_jax.load(folder / "run").params for folder in (finished_run, tmp_path))
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_going_on_with_another_number_of_devices_is_said_in_one_line(stopped, caplog):
    path = stopped / "run" / "run.json"
    starts = json.loads(path.read_text())
    path.write_text(json.dumps([starts[-1] | {"device_count": 7}]))
    go_on(stopped, stages=(1,))
    (line,) = (message for message in caplog.messages if "device_count" in message)
    assert line == (
        f"{stopped / 'run'}: device_count (was 7, is {starts[-1]['device_count']}); what follows equals the run's to "
        "float tolerance, not to the bit"
    )


def test_before_anything_is_trained_files_may_change(stopped):
    for made in ("stage1", "predictions"):
        shutil.rmtree(stopped / "run" / made)
    edit_image(stopped)
    shutil.rmtree(stopped / "cohort" / "Case_P001")
    go_on(stopped, stages=(1,))
    names = sorted(name for fold in json.loads((stopped / "run" / "folds.json").read_text()) for name in fold)
    assert names == ["Case_N003", "Case_P002", "Case_P004"]


def test_other_splits_are_named(first_start, tmp_path):
    names = sorted(path.name for path in (first_start / "cohort").iterdir() if path.is_dir())

    def write_splits(first):
        halves = [first, [name for name in names if name not in first]]
        (tmp_path / "splits.json").write_text(json.dumps([{"val": half, "train": other} for half, other in
                                                          (halves, halves[::-1])]))  # fmt: skip

    shutil.copytree(first_start / "cohort", tmp_path / "cohort")
    write_splits(names[:2])
    changes = {"stages": (1,), "data.splits": str(tmp_path / "splits.json")}
    go_on(tmp_path, **changes)
    write_splits(names[1:3])
    assert "changed: data.splits;" in refusal(tmp_path, **changes)


def test_weights_to_start_from_that_were_trained_anew_are_named(finished, tmp_path):
    source = finished / "run"
    config = tiny_config(finished / "cohort", init_from=str(source), stages=(1,))
    train.run_training(config, tmp_path / "second", silent)
    path = source / "stage1" / "fold1" / "params"
    shutil.rmtree(path)
    shutil.copytree(source / "stage1" / "fold0" / "params", path)
    with pytest.raises(CaseError, match="changed: init_from;"):
        train.run_training(config, tmp_path / "second", silent)


def test_a_run_goes_on_with_less_memory(tmp_path):
    config = emidec.get_config("laptop")
    (tmp_path / "config.json").write_text(json.dumps(same_run.recorded_settings(config)))
    config.stage1.accumulate, config.stage2.rematerialise = 2, True
    same_run.check_same_config(tmp_path, config)
    config.stage1.steps += 1
    with pytest.raises(CaseError, match=r"stage1\.steps"):
        same_run.check_same_config(tmp_path, config)


def test_a_run_is_known_by_which_weights_in_the_box_it_started_from(tmp_path):
    config = emidec.get_config("laptop")

    recorded = same_run.recorded_settings(config)

    def record(start):
        (tmp_path / "config.json").write_text(json.dumps(recorded | {"init_from": start}))

    record("pretrained")  # as runs wrote it when "phantom" was all there was
    train.check_same_config(tmp_path, config)
    config.init_from = "pretrained"
    with pytest.raises(CaseError, match=r"init_from \(was phantom, is emidec\)"):
        train.check_same_config(tmp_path, config)
    record("emidec")
    train.check_same_config(tmp_path, config)


def chunks(folder):
    return sorted(path for path in folder.rglob("c/*") if path.is_dir())


@pytest.mark.parametrize("array", ["prepared/cohort/image", "prepared/cohort/labels", "stage1/fold1/predictions"])
def test_an_array_with_a_missing_chunk_is_not_read_as_zeros(stopped, array):
    shutil.rmtree(chunks(stopped / "run" / array)[1])
    line = refusal(stopped)
    assert "missing" in line
    assert "to make it again" in line or "to have that case made again" in line
    assert str(stopped / "run" / array) in line or str((stopped / "run" / array).parent) in line


@pytest.mark.parametrize("content", ["", "[{", "3", "\udcff"], ids=["empty", "cut", "other", "not text"])
@pytest.mark.parametrize(
    "name",
    ["config.json", "folds.json", "inputs.json", "prepared/plan.json", "prepared/cohort/cohort.json", "finished.json"],
)
def test_a_damaged_record_is_named(first_start, finished_run, tmp_path, name, content):
    shutil.copytree(finished_run if name == "finished.json" else first_start, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "run" / name
    path.write_bytes(content.encode(errors="surrogateescape"))
    line = refusal(tmp_path)
    assert str(path) in line


def test_a_finished_run_without_its_tables_makes_them_again(finished):
    tables = finished / "run" / "tables.md"
    before = tables.read_text()
    tables.unlink()
    assert "nothing was left to do" not in go_on(finished)
    assert tables.read_text() == before


@pytest.mark.parametrize("damage", ["missing", "cut", "emptied", "a bit"])
def test_damaged_parameters_are_named(finished, damage):
    folder = finished / "run" / "stage2" / "fold1" / "params"
    if damage == "missing":
        shutil.rmtree(folder)
    else:
        files = [path for path in folder.rglob("*") if path.is_file()]
        largest = max(files, key=lambda path: path.stat().st_size)
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes({"cut": content[:-100], "emptied": b"", "a bit": content}[damage])
    with pytest.raises(CaseError) as error:
        cascade_jax.load(finished / "run")
    assert str(error.value).startswith(f"{folder}: ")
    assert "\n" not in str(error.value)


def test_a_folder_with_a_model_file_alone_is_named(finished, tmp_path):
    (tmp_path / "model").mkdir()
    shutil.copy(finished / "run" / MODEL_FILE, tmp_path / "model")
    with pytest.raises(CaseError, match=r"stage1/fold0/params: is missing"):
        cascade_jax.load(tmp_path / "model")


def test_a_folder_is_one_runs_alone_until_that_ends_or_is_killed(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(CaseError, match="is in use by another run"), train.claim(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with train.claim(tmp_path):
        pass
    with train.claim(tmp_path):
        pass


def test_a_training_can_be_imported_where_there_is_no_fcntl():
    program = "import sys; sys.modules['fcntl'] = None; import launch.train, cascade_jax.commands.train"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ, check=True)
