"""The commands as a user runs them: a whole training, a killed one, predictions, evaluation, and every bad input."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest

import cascade_jax
from cascade_jax import checkpoint, postprocess
from cascade_jax.commands import train
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CaseError
from cascade_jax.errors import ConfigError
from cascade_jax.phantoms import simulated
from cascade_jax.report import tables
from launch.configs import default, two_labels

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT.parent / "shared" / "data" / "emidec_sample"
TINY = {
    "num_folds": 2,
    "folds": "0,1",
    "figures": 1,
    "mirror": False,
    "data.phantom.cases": 4,
    "data.phantom.held_out_cases": 1,
    "data.phantom.field_of_view_mm": 90.0,
    "plan.spacing": "10.0,4.0,4.0",
    "plan.slices.features": "4,8",
    "plan.volumes.features": "4,8",
    "plan.slices.batch_size": 4,
    "plan.volumes.batch_size": 2,
} | {
    f"stage{stage}.{name}": value
    for stage in (1, 2)
    for name, value in (("steps", 12), ("steps_per_dispatch", 1), ("validate_every", 6), ("checkpoint_every", 3))
}


def command(name, **arguments):
    flags = [f"--{key}={value}" for key, value in arguments.items() if key != "config_values"]
    values = [f"--config.{key}={value}" for key, value in arguments.get("config_values", {}).items()]
    return [sys.executable, "-m", f"launch.{name}", *flags, *values]


def run(name, **arguments):
    return subprocess.run(
        command(name, **arguments), cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )


def train_command(workdir, **values):
    return {"config": "launch/configs/default.py", "workdir": workdir, "config_values": TINY | values}


def kill_in_second_fold(workdir, environment=os.environ, **values):
    """Starts a training and kills it between the first checkpoint of stage one's second fold and that fold's end."""
    process = subprocess.Popen(
        command("train", **train_command(workdir, **values)),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints = workdir / "stage1" / "fold1" / "checkpoints"
    deadline = time.monotonic() + 300
    while not list(checkpoints.glob("[369]")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run has come to no checkpoint"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (workdir / "stage1" / "fold1" / "params").exists()
    assert not (workdir / "finished.json").exists()


def fails_with_one_line(result, *words):
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith(("error", "failed"))]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert str(word) in lines[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "tiny"
    result = run("train", **train_command(workdir))
    assert result.returncode == 0, result.stderr
    return workdir, result


def test_training_ends_with_the_papers_tables_and_leaves_everything_in_the_workdir(trained):
    workdir, result = trained
    for title in tables.TITLES.values():
        assert title in result.stdout
    assert "validation Dice" in result.stdout
    stored = json.loads((workdir / "tables.json").read_text())
    assert set(stored) == {"table1", "table2", "table3"}
    names = [files.name for files in folders.find_cases(workdir / "data" / "training")]
    assert sorted(name for fold in json.loads((workdir / "folds.json").read_text()) for name in fold) == names
    for folder in ("stage1", "stage2", "final"):
        assert sorted(folders.find_contours(workdir / "predictions" / folder)) == names
    for stage in ("stage1", "stage2"):
        for fold in ("fold0", "fold1"):
            rows = (workdir / stage / fold / "metrics.csv").read_text().splitlines()
            assert len(rows) == 1 + 12 + 2
            assert list((workdir / stage / fold).glob("events.out.tfevents.*"))
            assert not (workdir / stage / fold / "checkpoints").exists()
    for kind in ("cross_validation", "held_out"):
        assert len(list((workdir / "figures" / kind).glob("*.png"))) == 1
    assert f"Figures are in {workdir / 'figures'}" in result.stdout
    for report in ("report.html", "report_held_out.html"):
        assert report in result.stdout
        assert ("Learning curves" in (workdir / report).read_text()) == (report == "report.html")


def test_training_again_says_that_it_is_finished(trained):
    workdir, _ = trained
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*.nii.gz")}
    result = run("train", **train_command(workdir))
    assert result.returncode == 0
    assert "is finished" in result.stdout
    assert tables.TITLES["table2"] in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in workdir.rglob("*.nii.gz")}


def test_a_workdir_of_before_there_were_kinds_goes_on(trained, tmp_path):
    workdir, _ = trained
    settings = json.loads((workdir / "config.json").read_text())
    assert settings.pop("kind") == "cross-validation"
    shutil.copytree(workdir, tmp_path / "old")
    (tmp_path / "old" / "config.json").write_text(json.dumps(settings))
    result = run("train", **train_command(tmp_path / "old"))
    assert result.returncode == 0, result.stderr
    assert "nothing was left to do" in result.stdout


def test_another_config_in_the_same_workdir_is_refused(trained):
    workdir, _ = trained
    result = run("train", **train_command(workdir, **{"stage1.learning_rate": 0.5}))
    fails_with_one_line(result, workdir, "stage1.learning_rate (was 0.01, is 0.5)")


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(trained, tmp_path):
    whole, _ = trained
    workdir = tmp_path / "killed"
    kill_in_second_fold(workdir)

    result = run("train", **train_command(workdir))
    assert result.returncode == 0, result.stderr
    expected, actual = cascade_jax.load(whole), cascade_jax.load(workdir)
    jax.tree.map(np.testing.assert_array_equal, expected.params, actual.params)
    assert (workdir / "tables.json").read_text() == (whole / "tables.json").read_text()


def test_a_subset_of_folds_is_run_alone_and_the_rest_can_follow(tmp_path):
    result = run("train", **train_command(tmp_path / "part", folds="1", stages="1"))
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "part" / "stage1" / "fold0").exists()
    early = run("train", **train_command(tmp_path / "part", folds="1", stages="2"))
    fails_with_one_line(early, "stage1/fold0", "stage two needs stage one of every fold")
    result = run("train", **train_command(tmp_path / "part", folds="1"))
    assert result.returncode == 0, result.stderr
    assert "| | fold 1 | mean |" in result.stdout
    assert not (tmp_path / "part" / "stage2" / "fold0").exists()


def test_evaluate_gives_what_the_tables_hold(trained, tmp_path):
    workdir, _ = trained
    output = tmp_path / "metrics.json"
    result = run(
        "evaluate", prediction=workdir / "predictions" / "final", truth=workdir / "data" / "training", output=output
    )
    assert result.returncode == 0, result.stderr
    written = json.loads(output.read_text())
    assert written["failed"] == {}
    columns = json.loads((workdir / "tables.json").read_text())["table2"]["cases"]
    expected = {name: values for cases in columns.values() for name, values in cases.items()}
    for name, values in expected.items():
        for target, metrics in values.items():
            # Spacing in files is float32.
            assert written["cases"][name][target] == pytest.approx(metrics, rel=1e-5, abs=0.02, nan_ok=True)
            assert name in result.stdout


def test_evaluate_names_what_is_missing_or_misshapen_and_does_the_rest(trained, tmp_path):
    workdir, _ = trained
    truth = workdir / "data" / "training"
    cases = [emidec.read_case(files) for files in folders.find_cases(truth)]
    emidec.write_labels(tmp_path / "prediction", cases[0].labels, cases[0])
    emidec.write_labels(tmp_path / "prediction", cases[1].labels, cases[1])
    path = emidec.contour_path(tmp_path / "prediction", cases[1].name)
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[1:], None, image.header), path)
    result = run("evaluate", prediction=tmp_path / "prediction", truth=truth, output=tmp_path / "metrics.json")
    assert result.returncode == 1
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert list(written["cases"]) == [cases[0].name]
    assert written["mean"]["myocardium"]["dice"] == 1
    assert set(written["failed"]) == {case.name for case in cases[1:]}
    assert "voxels, but the truth is" in written["failed"][cases[1].name]


def read(path):
    image = nib.load(path)
    return np.asarray(image.dataobj), image


def test_predict_writes_labels_in_the_inputs_own_grid(trained, tmp_path):
    workdir, _ = trained
    files = folders.find_cases(workdir / "data" / "held_out")
    result = run("predict", workdir=workdir, input=files[0].image, output=tmp_path / "out")
    assert result.returncode == 0, result.stderr
    name = files[0].name
    labels, image = read(tmp_path / "out" / name / "Contours" / f"{name}.nii.gz")
    source = nib.load(files[0].image)
    assert labels.dtype == np.uint8
    assert labels.shape == source.shape
    np.testing.assert_array_equal(image.affine, source.affine)
    assert image.header.get_zooms() == source.header.get_zooms()
    # The same as from Python, and as the training's own held-out prediction.
    np.testing.assert_array_equal(
        cascade_jax.load(workdir).segment(source.get_fdata(), source.header.get_zooms()), labels
    )
    np.testing.assert_array_equal(read(emidec.contour_path(workdir / "predictions" / "held_out", name))[0], labels)


def test_predict_over_a_cohort_goes_on_past_bad_cases_and_lists_them(trained, tmp_path):
    workdir, _ = trained
    folder = tmp_path / "scans"
    folder.mkdir()
    good = folders.find_cases(workdir / "data" / "held_out")[0].image
    (folder / "a_broken.nii.gz").write_bytes(good.read_bytes()[:2000])
    (folder / "b_good.nii.gz").write_bytes(good.read_bytes())
    (folder / "c_text.nii").write_text("no image")
    result = run("predict", workdir=workdir, input=folder, output=tmp_path / "out", figures=False)
    assert result.returncode == 1
    failed = [line for line in result.stderr.splitlines() if line.startswith("failed")]
    assert len(failed) == 2
    assert "a_broken.nii.gz" in failed[0]
    assert "c_text.nii" in failed[1]
    assert {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")} == {
        "b_good",
        "dseg.tsv",
        "expected_dice.csv",
        "labels.ctbl",
    }
    header, row = (tmp_path / "out" / "expected_dice.csv").read_text().splitlines()
    assert header == "case,myocardium,infarction,no_reflow,doubtful"
    # A network of twelve steps is sure of nothing, and is told from a good one by that.
    assert row.startswith("b_good,")
    assert row.endswith(",yes")
    assert "doubtful, look at it: b_good" in result.stdout


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_readmes_ten_lines_run(trained, tmp_path):
    workdir, _ = trained
    (example,) = python_blocks("README.md")
    (labels,) = python_blocks("docs/train.md")
    config = default.get_config()
    exec(labels, {"config": config})
    assert config.labels == two_labels.get_config().labels
    scan = folders.find_cases(workdir / "data" / "held_out")[0].image
    names = {}
    exec(example.replace("scan.nii.gz", str(scan)).replace("runs/phantom", str(workdir)), names)
    assert names["labels"].shape == nib.load(scan).shape
    assert names["scores"]["myocardium"]["dice"] == 1
    assert names["logits"].shape == (1, 64, 64, 5)


def test_predicting_again_keeps_the_others_rows_and_no_stale_map(trained, tmp_path):
    workdir, _ = trained
    held_out = folders.find_cases(workdir / "data" / "held_out")[0]
    other = folders.find_cases(workdir / "data" / "training")[0]
    for file, figures in ((held_out, True), (other, False), (held_out, False)):
        result = run("predict", workdir=workdir, input=file.image, output=tmp_path / "out", figures=figures)
        assert result.returncode == 0, result.stderr
        maps = {path.parent.name for path in (tmp_path / "out").glob("*/D*/*.nii.gz")}
        assert maps == ({"Doubt", "Disagreement"} if figures or file is other else set())
    rows = (tmp_path / "out" / "expected_dice.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {held_out.name, other.name}


def test_predictions_can_have_images_beside_them_and_a_true_affine(trained, tmp_path):
    workdir, _ = trained
    file = folders.find_cases(workdir / "data" / "held_out")[0]
    result = run("predict", workdir=workdir, input=file.image, output=tmp_path, images=True)
    assert result.returncode == 0, result.stderr
    zooms = nib.load(file.image).header.get_zooms()
    for kind in ("Images", "Contours", "Doubt", "Disagreement"):
        written = nib.load(tmp_path / file.name / kind / f"{file.name}.nii.gz")
        # The challenge's direction, of which only the size was wrong.
        np.testing.assert_allclose(np.diag(written.affine)[:3], np.multiply(zooms, (-1, -1, 1)), rtol=1e-6)
        assert written.header.get_zooms() == pytest.approx(zooms)
    np.testing.assert_array_equal(read(tmp_path / file.name / "Images" / f"{file.name}.nii.gz")[0], read(file.image)[0])


def test_what_is_compiled_is_kept_for_the_user_and_not_looked_for_in_a_model(trained, tmp_path, monkeypatch):
    workdir, _ = trained
    file = folders.find_cases(workdir / "data" / "held_out")[0]
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = sorted(workdir.rglob("*"))
    result = run("predict", workdir=workdir, input=file.image, output=tmp_path / "out", figures=False)
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "cache" / "cascade_jax").glob("*/*-cache"))
    assert sorted(workdir.rglob("*")) == before


def test_what_a_training_leaves_is_quantified_reported_and_given_to_nnunet(trained, tmp_path):
    workdir, _ = trained
    predicted, cohort = workdir / "predictions" / "held_out", workdir / "data" / "held_out"
    (name,) = folders.find_contours(predicted)
    for kind in (folders.DOUBT, folders.DISAGREEMENT):
        values, _ = read(emidec.path_in(predicted, kind, name))
        assert values.shape == nib.load(folders.find_cases(cohort)[0].image).shape
        assert 0 < values.max() <= 1
    assert values.max() == 0.5, "one of two folds disagrees"
    for arguments in (
        {"labels": predicted, "images": cohort, "output": tmp_path / "tables"},
        {"labels": cohort, "images": cohort, "output": tmp_path / "truth"},
    ):
        result = run("quantify", **arguments)
        assert result.returncode == 0, result.stderr
        assert (arguments["output"] / "cases.csv").read_text().splitlines()[1].startswith(f"{name},")
    result = run("report", workdir=workdir, output=tmp_path)
    assert result.returncode == 0, result.stderr
    pages = {page: (tmp_path / page).read_text() for page in ("report.html", "report_held_out.html")}
    for page, text in pages.items():
        shown = re.findall(r'class="layer" value="([^"]+)"', text), re.findall(r'class="heat" value="([^"]+)"', text)
        layers = {"prediction", "truth", "stage one", "before postprocessing"}
        maps = {folders.DOUBT} | ({folders.DISAGREEMENT} if "held_out" in page else set())
        assert tuple(map(set, shown)) == (layers, maps), page
        assert "What each step changed" in text
        assert "doubtful: the cascade expects a Dice" in text
    result = run("nnunet", cohort=workdir / "data" / "training", to_raw=tmp_path / "Dataset001_Phantom")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "Dataset001_Phantom" / "dataset.json").read_text())["numTraining"] == 4


def test_a_trained_cascade_is_exported_released_and_reads_dicom(trained, tmp_path):
    from tests.data.dicom_series import write_classic

    workdir, _ = trained
    case = emidec.read_case(folders.find_cases(workdir / "data" / "held_out")[0])
    cascade = cascade_jax.load(workdir)
    result = run("export", workdir=workdir, output=tmp_path / "cascade.stablehlo", platforms="cpu")
    assert result.returncode == 0, result.stderr
    program = jax.export.deserialize(bytearray((tmp_path / "cascade.stablehlo").read_bytes()))
    example = cascade.example(case)
    np.testing.assert_array_equal(program.call(example.image, example.valid)[0], cascade.vote(example).labels)
    result = run("release", workdir=workdir, output=tmp_path / "released")
    assert result.returncode == 0, result.stderr
    released = cascade_jax.load(tmp_path / "released")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7), released.params, cascade.params)
    write_classic(tmp_path / "series", case)
    result = run("dicom", workdir=tmp_path / "released", input=tmp_path / "series", output=tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "out" / "case").iterdir()} == {
        *("Images", "Contours", "Doubt", "Disagreement", "case.png", "case.seg.dcm", "case.sr.dcm")
    }


@pytest.mark.skipif(not SAMPLE.exists(), reason="the real sample is not beside the project")
def test_predict_on_a_real_case_overlays_its_image(trained, tmp_path):
    workdir, _ = trained
    result = run("predict", workdir=workdir, input=SAMPLE, output=tmp_path)
    assert result.returncode == 0, result.stderr
    labels, image = read(tmp_path / "sampleNegative" / "Contours" / "sampleNegative.nii.gz")
    source = nib.load(SAMPLE / "sampleNegative" / "Images" / "sampleNegative.nii.gz")
    assert labels.shape == source.shape == (148, 246, 9)
    assert set(np.unique(labels)) <= set(range(5))
    for field in ("pixdim", "srow_x", "srow_y", "srow_z", "sform_code", "qform_code", "xyzt_units"):
        np.testing.assert_array_equal(image.header[field], source.header[field])
    assert (tmp_path / "sampleNegative" / "sampleNegative.png").stat().st_size > 10_000


def test_predict_goes_on_past_a_case_folder_without_an_image(trained, tmp_path):
    workdir, _ = trained
    shutil.copytree(workdir / "data" / "held_out", tmp_path / "cohort")
    (tmp_path / "cohort" / "Case_X" / "Images").mkdir(parents=True)
    result = run("predict", workdir=workdir, input=tmp_path / "cohort", output=tmp_path / "out", figures=False)
    assert result.returncode == 1
    fails_with_one_line(result, "Case_X", "holds no image file")
    assert len(folders.find_contours(tmp_path / "out")) == 1


def test_predict_without_a_finished_model_says_so(tmp_path):
    result = run("predict", workdir=tmp_path, input=tmp_path, output=tmp_path / "out")
    fails_with_one_line(result, tmp_path, "has no trained model")


def test_the_phantom_command_writes_a_cohort(tmp_path):
    result = run("phantom", output=tmp_path / "cohort", cases=3, seed=4, field_of_view_mm=90)
    assert result.returncode == 0, result.stderr
    assert len(folders.find_cases(tmp_path / "cohort", labelled=True)) == 3


@pytest.mark.parametrize("name", ["train", "predict", "evaluate", "phantom", "quantify", "dicom", "export", "release"])
def test_every_command_has_help_and_names_what_is_missing(name):
    shown = run(name, help="true")
    assert f"cascade-jax {name}" in shown.stdout
    fails_with_one_line(run(name), "--help")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stage1.learning_rat": 0.1}, ["no setting config.stage1.learning_rat"]),
        ({"stage1.steps": "many"}, ["many"]),
        ({"folds": "0,7"}, ["folds", "7"]),
        ({"stage2.validate_every": 7, "stage2.steps_per_dispatch": 2}, ["stage2", "multiple of steps_per_dispatch"]),
        ({"stage1.optimizer": "adan"}, ["optimizer", "adan"]),
        ({"compute_dtype": "float8"}, ["compute_dtype", "float8"]),
        ({"kind": "crossvalidation"}, ["kind", "crossvalidation", "known: cross-validation, pretraining"]),
        ({"parallel": "shard"}, ["parallel", "shard", "known: jit, pmap"]),
        ({"plan.slices.features": "4,8,8,8,8,8"}, ["features"]),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_that_names_it(tmp_path, values, words):
    result = run("train", **train_command(tmp_path / "run", **values))
    fails_with_one_line(result, *words)


def test_a_config_file_that_is_not_there_is_named(tmp_path):
    result = run("train", config="nowhere.py", workdir=tmp_path / "run")
    fails_with_one_line(result, "nowhere.py", "no such file")


def test_importing_the_library_starts_no_device_and_needs_no_launch_scripts(tmp_path):
    script = (
        "import sys, cascade_jax; from jax._src import xla_bridge; "
        "assert not xla_bridge._backends; assert not any(m.split('.')[0] == 'launch' for m in sys.modules); "
        "assert 'matplotlib' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)


# Bad cohorts. Each is found before any training starts.


def tiny_config(root):
    config = default.get_config()
    config.data.root = str(root)
    config.num_folds, config.folds = 2, (0, 1)
    return config


@pytest.fixture(scope="module")
def good_cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    simulated.write_cohort(root, 3, 0, field_of_view_mm=90)
    return root


def test_training_starts_from_a_trained_cascade_with_its_networks(trained, good_cohort, tmp_path, monkeypatch):
    workdir, _ = trained
    config = tiny_config(good_cohort)
    config.init_from = str(workdir)
    config.plan.slices.features = (16, 32, 64)  # those of the trained cascade take their place
    config.plan.slices.batch_size = config.plan.volumes.batch_size = 2
    for stage in (config.stage1, config.stage2):
        with stage.unlocked():
            # Nothing is learnt, so what comes out is what went in.
            stage.update(learning_rate=0.0, steps=1, steps_per_dispatch=1, validate_every=1, checkpoint_every=1)
    known = []
    choose_rules = postprocess.choose_rules

    def choose(*args, **kwargs):
        known.append(kwargs["known"])
        return choose_rules(*args, **kwargs)

    monkeypatch.setattr(postprocess, "choose_rules", choose)
    train.run(config, tmp_path, lambda iterable, _: iterable)
    source = cascade_jax.load(workdir)
    assert known == [source.rules]
    restored = checkpoint.restore_params(tmp_path / "stage1" / "fold1" / "params")
    jax.tree.map(np.testing.assert_array_equal, restored, source.fold_params(0, 1))
    plan = json.loads((tmp_path / "prepared" / "plan.json").read_text())
    assert plan["slices"]["features"] == [4, 8]
    assert plan["spacing"][1:] == [4.0, 4.0]


def test_training_from_a_folder_without_a_model_says_so(good_cohort, tmp_path):
    config = tiny_config(good_cohort)
    config.init_from = str(tmp_path / "nothing")
    with pytest.raises(CaseError, match="has no trained model"):
        train.run(config, tmp_path / "run", lambda iterable, _: iterable)


def image_file(root, name="Case_N003"):
    return root / name / "Images" / f"{name}.nii.gz"


def contour_file(root, name="Case_N003"):
    return root / name / "Contours" / f"{name}.nii.gz"


def rewrite(path, change, zooms=None):
    image = nib.load(path)
    header = image.header.copy()
    array = change(image.get_fdata())
    changed = nib.Nifti1Image(array, image.affine, header)
    if zooms is not None:
        changed.header["pixdim"][1:4] = zooms
    changed.to_filename(path)
    if zooms is not None:  # nibabel writes the absolute value
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[80:92] = np.array(zooms, np.float32).tobytes()
        path.write_bytes(gzip.compress(bytes(content)))


def put(value):
    def change(array):
        array[5, 5, 0] = value
        return array

    return change


BAD = {
    "truncated file": (lambda r: image_file(r).write_bytes(image_file(r).read_bytes()[:5000]), image_file),
    "not NIfTI": (lambda r: image_file(r).write_text("hello"), image_file),
    "4D image": (lambda r: rewrite(image_file(r), lambda a: np.stack([a, a], -1)), image_file),
    "NaN": (lambda r: rewrite(image_file(r), put(np.nan)), image_file),
    "infinite": (lambda r: rewrite(image_file(r), put(np.inf)), image_file),
    "constant": (lambda r: rewrite(image_file(r), np.ones_like), image_file),
    "zero spacing": (lambda r: rewrite(image_file(r), np.array, (1.5, 0, 10)), image_file),
    "negative spacing": (lambda r: rewrite(image_file(r), np.array, (1.5, 1.5, -10)), image_file),
    "different shapes": (lambda r: rewrite(contour_file(r), lambda a: a[1:]), contour_file),
    "label 5": (lambda r: rewrite(contour_file(r), put(5)), contour_file),
    "negative label": (lambda r: rewrite(contour_file(r), put(-1)), contour_file),
    "half a label": (lambda r: rewrite(contour_file(r), put(1.5)), contour_file),
    "missing contour": (lambda r: contour_file(r).unlink(), lambda r: "Case_N003"),
    "missing image": (lambda r: image_file(r).unlink(), lambda r: "Case_N003"),
    "same name twice": (lambda r: (r / "Case_N003").rename(r / "case_p001"), lambda r: "ase_"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_stops_training_before_it_starts_and_is_named(good_cohort, tmp_path, fault):
    root = tmp_path / "cohort"
    simulated.write_cohort(root, 3, 0, field_of_view_mm=90)
    assert image_file(root).exists()
    damage, named = BAD[fault]
    damage(root)
    with pytest.raises(CaseError) as error:
        train.run(tiny_config(root), tmp_path / "run", lambda iterable, _: iterable)
    assert str(named(root)) in str(error.value)
    assert "\n" not in str(error.value)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {".lock"}, "nothing half-prepared stays behind"


def test_a_missing_or_empty_folder_or_too_few_cases_stop_training(good_cohort, tmp_path):
    def fault(root, **changes):
        config = tiny_config(root)
        config.update(changes)
        with pytest.raises(CaseError) as error:
            train.run(config, tmp_path / f"run{len(list(tmp_path.iterdir()))}", lambda iterable, _: iterable)
        return str(error.value)

    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "nowhere") in fault(tmp_path / "nowhere")
    assert str(tmp_path / "empty") in fault(tmp_path / "empty")
    assert "has 3 cases, fewer than the 5 folds" in fault(good_cohort, num_folds=5)


def test_a_share_of_the_start_beyond_the_whole_is_refused(good_cohort, tmp_path):
    config = tiny_config(good_cohort)
    config.init_share = 1.5
    with pytest.raises(ConfigError, match=r"init_share is 1\.5"):
        train.run(config, tmp_path, lambda iterable, _: iterable)


def test_a_workdir_that_cannot_be_written_is_refused(good_cohort, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CaseError, match="cannot be written to"):
        train.run(tiny_config(good_cohort), tmp_path / "file" / "run", lambda iterable, _: iterable)


def test_a_folder_that_holds_something_else_is_no_workdir(good_cohort, tmp_path):
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "mine.txt").write_text("mine")
    with pytest.raises(CaseError, match="is no working folder, for it holds predictions"):
        train.run(tiny_config(good_cohort), tmp_path, lambda iterable, _: iterable)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["predictions"]


def test_an_output_that_cannot_be_written_stops_predict(trained, tmp_path):
    workdir, _ = trained
    (tmp_path / "file").write_text("in the way")
    result = run("predict", workdir=workdir, input=workdir / "data" / "held_out", output=tmp_path / "file" / "out")
    fails_with_one_line(result, tmp_path / "file", "cannot be written to")


@pytest.mark.parametrize(
    ("image", "spacing", "fault"),
    [
        (np.ones(8), (1, 1, 10), "dimensions"),
        (np.full((8, 8, 2), np.nan), (1, 1, 10), "NaN or infinite"),
        (np.ones((8, 8, 2)), (1, 1, 10), "constant"),
        (np.arange(128.0).reshape(8, 8, 2), (1, 0, 10), "positive"),
    ],
)
def test_segment_refuses_bad_arrays(trained, image, spacing, fault):
    with pytest.raises(CaseError, match=fault):
        cascade_jax.load(trained[0]).segment(image, spacing)


def test_a_training_starts_without_what_only_its_end_needs():
    late = {"matplotlib", "orbax", "tensorboardX"}
    command = f"import sys, cascade_jax.commands.train; print({late} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
