"""Learning from corrected outlines: judged on cases left out, beside the weights at the start."""

import json
import shutil

import pytest

import cascade_jax
from cascade_jax.data import emidec, folders
from tests.commands.command_line import fails_with_one_line, run

SMALL = {
    "num_folds": 2,
    "folds": "0,1",
    "figures": 0,
    "mirror": False,
    "phantom_share": 0.0,
    "plan.spacing": "10.0,4.0,4.0",
    "plan.shape": "8,40,40",
    "plan.window": "24,24",
} | {
    f"stage{stage}.{name}": 2
    for stage in (1, 2)
    for name in ("steps", "steps_per_dispatch", "validate_every", "checkpoint_every")
}


@pytest.fixture(scope="module")
def corrected(trained, tmp_path_factory):
    """A folder of predictions, two of which a reader has corrected in another program, and the weights they are of."""
    weights, _ = trained
    root = tmp_path_factory.mktemp("corrected")
    run("phantom", output=root / "cohort", cases=3, seed=7, field_of_view_mm=90)
    result = run("predict", weights=weights, input=root / "cohort", output=root / "out", images="true", figures="false")
    assert result.returncode == 0, result.stderr
    for case in folders.find_cases(root / "cohort", labelled=True)[:2]:
        saved = root / "out" / case.name / "Corrected" / "Segmentation.nii.gz"
        saved.parent.mkdir()
        emidec.write_labels_as(saved, emidec.read_case(case).labels, emidec.read_case(case))
    return root / "out", weights


def learn(predictions, weights, workdir, **settings):
    values = SMALL | {"data.root": predictions, "init_from": weights} | settings
    return run("train", config="launch/configs/corrections.py", workdir=workdir, config_values=values)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_corrected_cases_are_learnt_from_and_new_weights_are_judged_beside_the_old(corrected, tmp_path):
    predictions, weights = corrected
    before = contents(predictions)
    result = learn(predictions, weights, tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert "Before and after" in result.stdout and "On 2 cases" in result.stdout
    told = json.loads((tmp_path / "run" / "comparison.json").read_text())
    names = [path.name for path in sorted(predictions.iterdir()) if (path / "Corrected").exists()]
    assert sorted(told["cases"]) == names and len(names) == 2
    verdict = "Use them: --weights=" if told["better"] else "stay with"
    assert verdict in result.stdout
    assert contents(predictions) == before
    assert cascade_jax.load(tmp_path / "run" / "all").folds == (0,)

    case = next(predictions.glob("*/Corrected/*.nii.gz"))
    kept = case.read_bytes()
    labels = emidec.read_labels(case)[0]
    labels[labels == 1] = 2
    name = case.parents[1].name
    image = emidec.read_case(next(file for file in folders.find_inputs(predictions) if file.name == name))
    emidec.write_labels_as(case, labels, image)
    fails_with_one_line(learn(predictions, weights, tmp_path / "run"), f"{name}/Contours", "is not what")
    assert (tmp_path / "run" / "data" / "training" / name / "Contours").exists()
    trained_on = emidec.read_labels(emidec.contour_path(tmp_path / "run" / "data" / "training", name))[0]
    assert (trained_on == 1).any(), "what was trained on stays"
    case.write_bytes(kept)


def test_too_few_corrections_and_a_missing_image_are_named(corrected, tmp_path):
    predictions, weights = corrected
    result = learn(predictions, weights, tmp_path / "run", num_folds=3, folds="0,1,2")
    fails_with_one_line(result, predictions, "2 cases", "3 are needed")
    copy = tmp_path / "copy"
    shutil.copytree(predictions, copy)
    case = next(path.parent for path in sorted(copy.glob("*/Corrected")))
    shutil.rmtree(case / "Images")
    fails_with_one_line(learn(copy, weights, tmp_path / "other"), copy, case.name)


def test_images_may_lie_elsewhere_and_a_folder_of_the_users_own_is_left_alone(corrected, tmp_path):
    predictions, weights = corrected
    copy, files = tmp_path / "copy", tmp_path / "scans"
    shutil.copytree(predictions, copy)
    files.mkdir()
    for image in copy.glob("*/Images/*.nii.gz"):
        image.rename(files / image.name)
        image.parent.rmdir()
    own = tmp_path / "run" / "data" / "training" / "mine"
    own.mkdir(parents=True)
    result = learn(copy, weights, tmp_path / "run", **{"data.images": files})
    fails_with_one_line(result, "training", "another working folder")
    assert own.exists()
    result = learn(copy, weights, tmp_path / "other", **{"data.images": files, "stages": "1,"})
    assert result.returncode == 0, result.stderr
