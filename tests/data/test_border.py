"""The border around a field of view is told by what it is, not by a value."""

import numpy as np
import pytest

from cascade_jax.data.border import outside_field_of_view
from cascade_jax.data.case import Case
from cascade_jax.data.preprocess import bounding_box, preprocess
from cascade_jax.phantoms import simulated


@pytest.fixture(scope="module")
def image():
    """A phantom with the border that registration leaves, whose value 0 is also that of some tissue."""
    image = simulated.simulate_case(3, 1, field_of_view_mm=110).image.copy()
    assert (image == 0).any()
    middle = np.array(image.shape) // 2
    image[tuple(middle)] = 0
    return image


def test_the_border_is_the_plateaus_that_reach_the_edge(image):
    outside = outside_field_of_view(image)
    inside = np.zeros_like(outside)
    inside[tuple(np.array(image.shape) // 2)] = True
    np.testing.assert_array_equal(outside, (image == 0) & ~inside)


@pytest.mark.parametrize(("scale", "offset"), [(1, -1024), (0.25, 0), (0.5, 300), (1, 5000)])
def test_the_same_image_in_another_unit_or_with_another_offset_is_the_same_example(image, scale, offset):
    stored = (scale * image.astype(np.float64) + offset).astype(np.float32)
    np.testing.assert_array_equal(outside_field_of_view(stored), outside_field_of_view(image))
    assert bounding_box(stored) == bounding_box(image)
    one, other = (
        preprocess(Case("case", array, None, (10.0, 1.5, 1.5)), (1.8, 1.8), (12, 96, 96)) for array in (image, stored)
    )
    assert one.grid == other.grid
    np.testing.assert_allclose(one.image, other.image, atol=2e-4)


def test_borders_of_several_values_are_all_border():
    image = np.random.default_rng(0).normal(2000, 100, (2, 40, 50)).astype(np.float32)
    image[:, :6], image[0, 30:, 40:] = 0, 2048  # registration, and a corner that distortion correction left
    expected = np.zeros(image.shape, bool)
    expected[:, :6], expected[0, 30:, 40:] = True, True
    np.testing.assert_array_equal(outside_field_of_view(image), expected)


def test_noise_that_takes_few_values_is_no_border():
    image = np.random.default_rng(0).integers(0, 12, (3, 60, 60)).astype(np.float32)
    assert not outside_field_of_view(image).any()


def test_an_image_of_plateaus_alone_has_no_tissue_and_is_refused():
    image = np.ones((2, 20, 20), np.float32)
    image[1] = 2
    assert outside_field_of_view(image).all()
    with pytest.raises(ValueError, match="same intensity"):
        preprocess(Case("flat", image, None, (10.0, 1.5, 1.5)), (1.5, 1.5), (2, 20, 20))
