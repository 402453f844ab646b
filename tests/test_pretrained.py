"""The weights in the box: by name, and on images of every geometry."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import cascade_jax
from cascade_jax.bundle import IN_THE_BOX, MODEL_FILE, folder_of, name_of, read_model
from cascade_jax.commands.release import LICENCE_FILE, licence_text
from cascade_jax.data import emidec
from cascade_jax.data.case import INFARCTION
from cascade_jax.data.labels import EMIDEC
from cascade_jax.phantoms import simulated
from cascade_jax.phantoms.random_phantom import draw_phantom
from cascade_jax.weights import WEIGHTS_FILE


@pytest.fixture(scope="module", params=IN_THE_BOX)
def any_cascade(request):
    return cascade_jax.load(request.param, mirror=False)


@pytest.fixture(scope="module")
def cascade():
    """The one that learnt from simulated hearts, for simulated hearts."""
    return cascade_jax.load("phantom", mirror=False)


def test_both_sets_of_weights_lie_in_the_box_as_plain_numbers_with_their_page_and_are_small():
    folder = Path(cascade_jax.__file__).parent / "pretrained"
    assert {path.name for path in folder.iterdir()} == set(IN_THE_BOX) == {"phantom", "emidec"}
    for name in IN_THE_BOX:
        assert {"README.md", MODEL_FILE, WEIGHTS_FILE} <= {path.name for path in (folder / name).iterdir()}
        with np.load(folder / name / WEIGHTS_FILE, allow_pickle=False) as file:
            assert {file[array].dtype for array in file.files} == {np.dtype(np.float16)}
    assert 1e6 < sum(path.stat().st_size for path in folder.rglob("*")) < 40e6


def test_the_default_are_the_weights_that_were_trained_on_patients():
    assert name_of("pretrained") == "emidec"
    assert folder_of("pretrained") == folder_of("emidec") != folder_of("phantom")


def test_a_name_in_the_box_goes_before_a_folder_and_a_path_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "emidec").mkdir()
    assert folder_of("emidec").parent.name == "pretrained"
    for folder in ("./emidec", Path("emidec"), Path("pretrained"), "runs/emidec"):
        assert folder_of(folder) == Path(folder)


def test_who_gives_no_folder_of_weights_is_told_the_names_in_the_box(tmp_path):
    with pytest.raises(cascade_jax.CaseError, match=r"has no trained model .* in the box: phantom, emidec"):
        read_model(tmp_path)


def test_weights_that_were_trained_on_patients_are_under_the_datas_licence_and_say_so():
    assert read_model("phantom")["licence"] == ""
    licence = read_model("emidec")["licence"]
    assert licence.startswith("CC BY-NC-SA 4.0: trained on EMIDEC")
    assert (folder_of("emidec") / LICENCE_FILE).read_text() == licence_text(licence)
    for part in (licence, "creativecommons.org/licenses/by-nc-sa/4.0/", "NonCommercial", "10.3390/data5040089"):
        assert part in licence_text(licence)
    assert licence_text("Apache-2.0") == "Apache-2.0\n"


@pytest.mark.parametrize(
    ("given", "read"),
    [(None, ""), ("", ""), ("CC BY 4.0", "CC BY 4.0"), ("CC BY 4.0:\n two  lines\n", "CC BY 4.0: two lines")],
)
def test_a_licence_is_one_line_or_none(tmp_path, given, read):
    model = json.loads((folder_of("phantom") / MODEL_FILE).read_text())
    (tmp_path / MODEL_FILE).write_text(json.dumps(model | {"licence": given}))
    assert read_model(tmp_path)["licence"] == read
    (tmp_path / MODEL_FILE).write_text(json.dumps(model | {"licence": ["CC BY 4.0"]}))
    with pytest.raises(cascade_jax.CaseError, match="no model file"):
        read_model(tmp_path)


def test_a_model_file_may_have_a_rules_earlier_name(tmp_path):
    model = json.loads((folder_of("phantom") / MODEL_FILE).read_text())
    model["rules"] = [{"name": "islands_outside_muscle", "minimum_mm3": 0.0}, {"name": "one_ventricle"}]
    (tmp_path / MODEL_FILE).write_text(json.dumps(model))
    assert [rule.name for rule in read_model(tmp_path)["rules"]] == ["islands_outside_myocardium", "one_ventricle"]


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((96, 120), (1.5, 1.5)),  # one slice
        ((96, 120, 1), (2.2, 2.2, 8.0)),
        ((90, 70, 17), (2.5, 2.0, 5.0)),
        ((260, 300, 2), (0.7, 0.9, 14.0)),
    ],
)
def test_any_geometry_is_segmented(any_cascade, shape, spacing):
    image = np.random.default_rng(0).normal(100, 20, shape)
    result = any_cascade.segment(image, spacing, details=True)
    assert result.labels.shape == shape
    assert result.labels.dtype == np.uint8
    assert result.probabilities.shape == (*shape, 5)
    np.testing.assert_allclose(result.probabilities.sum(-1), 1, atol=1e-3)
    np.testing.assert_array_equal(any_cascade.segment(image, spacing), result.labels)


def test_hearts_are_found_wherever_they_lie_and_doubt_is_where_the_faults_are(cascade):
    draw = jax.jit(jax.vmap(lambda key: draw_phantom(key, (8, 128, 128), 1.8)))
    phantoms = jax.device_get(draw(jax.random.split(jax.random.key(2026), 24)))
    dice, expected = [], []
    for image, labels, distance in zip(phantoms.image, phantoms.labels, phantoms.slice_distance, strict=True):
        result = cascade.segment(emidec.to_file_axes(image), (1.8, 1.8, float(distance)), details=True)
        scores = cascade_jax.metrics.evaluate_case(
            result.labels, emidec.to_file_axes(labels), (1.8, 1.8, float(distance))
        )
        dice.append(scores["myocardium"]["dice"])
        expected.append(result.expected_dice["myocardium"])
        # What is expected is of the labels as they are given, after postprocessing.
        for target in ("infarction", "no_reflow"):
            there = np.isin(result.labels, EMIDEC.targets[target]).any()
            assert np.isnan(result.expected_dice[target]) == (not there)
    assert np.median(dice) > 0.8
    assert np.corrcoef(dice, expected)[0, 1] > 0.5


@pytest.fixture(scope="module")
def infarcted():
    """A phantom with an infarct and a border around its field of view: image (x, y, slice), labels, spacing."""
    case = simulated.simulate_case(0, 1, field_of_view_mm=115)
    assert (case.labels >= INFARCTION).any() and (case.image == 0).mean() > 0.01
    return emidec.to_file_axes(case.image), emidec.to_file_axes(case.labels), case.spacing[::-1]


@pytest.mark.parametrize(("scale", "offset"), [(1.0, -1024.0), (0.25, 300.0)])
def test_the_unit_of_an_image_changes_no_label(cascade, infarcted, scale, offset):
    image, _, spacing = infarcted
    labels = cascade.segment(image, spacing)
    assert (labels >= INFARCTION).any()
    assert (cascade.segment(scale * image + offset, spacing) != labels).mean() < 1e-4


def test_a_single_slice_without_a_thickness_keeps_its_infarct(cascade, infarcted):
    image, truth, spacing = infarcted
    index = int((truth >= INFARCTION).sum(axis=(0, 1)).argmax())
    labels = cascade.segment(image[:, :, index], np.array(spacing[:2]))
    assert (labels >= INFARCTION).any()
    np.testing.assert_array_equal(labels, cascade.segment(image[:, :, index], (*spacing[:2], 10.0)))


@pytest.mark.parametrize("spacing", [(1350.0, 1350.0, 9000.0), (1.4, 1.4, 0.009)])
def test_a_voxel_size_that_no_stack_has_is_refused_before_anything_is_made_of_it(cascade, spacing):
    with pytest.raises(cascade_jax.CaseError, match="no short-axis stack"):
        cascade.segment(np.random.default_rng(0).normal(size=(20, 20, 4)), spacing)


_SEGMENT = """
import json, sys
import numpy as np
import cascade_jax
from cascade_jax.phantoms import simulated
from cascade_jax.data import emidec

case = simulated.simulate_case(0, 1)
truth = emidec.to_file_axes(case.labels)
labels = cascade_jax.load("phantom").segment(emidec.to_file_axes(case.image), case.spacing[::-1])
scores = cascade_jax.metrics.evaluate_case(labels, truth, case.spacing[::-1])
print(json.dumps([case.image.shape, cascade_jax.metrics.dice(labels == 1, truth == 1), scores["myocardium"]["dice"]]))
"""


def test_a_case_of_full_size_compiled_as_users_have_it_is_outlined():
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    result = subprocess.run(
        [sys.executable, "-c", _SEGMENT], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    shape, cavity, myocardium = json.loads(result.stdout.splitlines()[-1])
    assert min(shape[1:]) >= 200
    assert cavity > 0.85 and myocardium > 0.75
