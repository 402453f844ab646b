"""The commands as a user runs them: a whole training, a killed one, and what is made of it."""

import json
import os
import re
import shutil
import subprocess
import sys

import jax
import nibabel as nib
import numpy as np
import pytest

import cascade_jax
from cascade_jax.data import emidec, folders
from cascade_jax.report import tables
from tests.commands.command_line import (
    ROOT,
    fails_with_one_line,
    kill_in_second_fold,
    read,
    run,
    train_command,
)


def test_training_ends_with_the_papers_tables_and_leaves_everything_in_the_workdir(trained):
    workdir, result = trained
    for title in tables.TITLES.values():
        assert title in result.stdout
    assert "validation Dice" in result.stdout
    stored = json.loads((workdir / "tables.json").read_text())
    assert set(stored) == {"table1", "table2", "table3"}
    for table, total in (("table1", 4), ("table2", 4), ("table3", 1)):
        assert stored[table]["detection"]["infarction"]["n"] == len(stored[table]["sizes"]) == total
    for row in (
        "stage one: normal hearts",
        "final result: infarct mass g, all hearts",
        "vote on held-out cases: infarct",
    ):
        assert f"| {row}" in result.stdout
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
    assert re.search(r"Figures are in \S+/tiny/figures", result.stdout)
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
    kill_in_second_fold(workdir, figures=0)

    result = run("train", **train_command(workdir, figures=0))
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
    result = run("train", **train_command(tmp_path / "part", folds="1", figures=0))
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
        assert "low-confidence: the cascade expects a Dice" in text
    result = run("nnunet", cohort=workdir / "data" / "training", to_raw=tmp_path / "Dataset001_Phantom")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "Dataset001_Phantom" / "dataset.json").read_text())["numTraining"] == 4


def test_a_trained_cascade_is_exported_released_and_reads_dicom(trained, tmp_path):
    from tests.data.dicom_series import write_classic

    workdir, _ = trained
    case = emidec.read_case(folders.find_cases(workdir / "data" / "held_out")[0])
    cascade = cascade_jax.load(workdir)
    result = run("export", weights=workdir, output=tmp_path / "cascade.stablehlo", platforms="cpu")
    assert result.returncode == 0, result.stderr
    program = jax.export.deserialize(bytearray((tmp_path / "cascade.stablehlo").read_bytes()))
    example = cascade.example(case)
    np.testing.assert_array_equal(program.call(example.image, example.valid)[0], cascade.vote(example).labels)
    result = run("release", weights=workdir, output=tmp_path / "released")
    assert result.returncode == 0, result.stderr
    released = cascade_jax.load(tmp_path / "released")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7), released.params, cascade.params)
    write_classic(tmp_path / "series", case)
    result = run("dicom", weights=tmp_path / "released", input=tmp_path / "series", output=tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "out" / "case").iterdir()} == {
        *("Images", "Contours", "Doubt", "Disagreement", "case.png", "case.seg.dcm", "case.sr.dcm")
    }


def test_the_phantom_command_writes_a_cohort(tmp_path):
    result = run("phantom", output=tmp_path / "cohort", cases=3, seed=4, field_of_view_mm=90)
    assert result.returncode == 0, result.stderr
    assert len(folders.find_cases(tmp_path / "cohort", labelled=True)) == 3


@pytest.mark.parametrize("name", ["train", "predict", "evaluate", "phantom", "quantify", "dicom", "export", "release"])
def test_every_command_has_help_and_names_what_is_missing(name):
    shown = run(name, help="true")
    assert f"cascade-jax {name}" in shown.stdout
    fails_with_one_line(run(name), "--help")


def test_importing_the_library_starts_no_device_and_needs_no_launch_scripts(tmp_path):
    script = (
        "import sys, cascade_jax; from jax._src import xla_bridge; "
        "assert not xla_bridge._backends; assert not any(m.split('.')[0] == 'launch' for m in sys.modules); "
        "assert 'matplotlib' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)


# Bad cohorts. Each is found before any training starts.
