"""The cascade in the box: on images of every geometry."""

from pathlib import Path

import jax
import numpy as np
import pytest

import cascade_jax
from cascade_jax.data import emidec
from cascade_jax.data.random_phantom import draw_phantom


@pytest.fixture(scope="module")
def cascade():
    return cascade_jax.load("pretrained", mirror=False)


def test_the_weights_in_the_box_are_small():
    folder = Path(cascade_jax.__file__).parent / "pretrained"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 25e6


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((96, 120), (1.5, 1.5)),  # one slice
        ((96, 120, 1), (2.2, 2.2, 8.0)),
        ((90, 70, 17), (2.5, 2.0, 5.0)),
        ((260, 300, 2), (0.7, 0.9, 14.0)),
    ],
)
def test_any_geometry_is_segmented(cascade, shape, spacing):
    image = np.random.default_rng(0).normal(100, 20, shape)
    result = cascade.segment(image, spacing, details=True)
    assert result.labels.shape == shape
    assert result.labels.dtype == np.uint8
    assert result.probabilities.shape == (*shape, 5)
    np.testing.assert_allclose(result.probabilities.sum(-1), 1, atol=1e-3)
    np.testing.assert_array_equal(cascade.segment(image, spacing), result.labels)


def test_hearts_are_found_wherever_they_lie_and_doubt_is_where_the_faults_are(cascade):
    draw = jax.jit(jax.vmap(lambda key: draw_phantom(key, (8, 128, 128), 1.8)))
    phantoms = jax.device_get(draw(jax.random.split(jax.random.key(2026), 12)))
    dice, expected = [], []
    for image, labels, distance in zip(phantoms.image, phantoms.labels, phantoms.slice_distance, strict=True):
        result = cascade.segment(emidec.to_file_axes(image), (1.8, 1.8, float(distance)), details=True)
        scores = cascade_jax.metrics.evaluate_case(
            result.labels, emidec.to_file_axes(labels), (1.8, 1.8, float(distance))
        )
        dice.append(scores["myocardium"]["dice"])
        expected.append(result.expected_dice["myocardium"])
    assert np.median(dice) > 0.8
    assert np.corrcoef(dice, expected)[0, 1] > 0.5
