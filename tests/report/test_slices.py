"""The page's pictures and outlines of slices."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cascade_jax.data.labels import EMIDEC
from cascade_jax.report import slices
from cascade_jax.report.slices import outlines, outlines_of


def decoded(uri):
    return base64.b64decode(uri.split(",")[1])


def test_pictures_of_a_large_stack_are_made_smaller():
    noise = np.random.default_rng(0).random((9, 500, 400), np.float32) + 1
    size = Image.open(io.BytesIO(decoded(slices.grey_images(noise, 0).images[0]))).size
    assert 9 * size[0] * size[1] <= 150_000
    assert size[0] / size[1] == pytest.approx(0.8, rel=0.02)
    assert Image.open(io.BytesIO(decoded(slices.heat_images(noise - 1)[0]))).size == size


def test_at_first_nearly_all_intensities_are_shown():
    image = np.random.default_rng(0).normal(2000, 100, (3, 60, 60)).astype(np.float32)
    stack = slices.grey_images(image, 1)
    np.testing.assert_allclose(stack.shown, np.percentile(image, (1, 99.5)), rtol=1e-5)
    np.testing.assert_allclose(stack.held, np.percentile(image, (0.1, 99.9)), rtol=1e-5)


def test_an_image_without_contrast_has_a_range_all_the_same():
    stack = slices.grey_images(np.ones((2, 40, 40), np.float32), 0)
    assert stack.held[1] > stack.held[0]


def test_outlines_lie_on_the_borders_of_voxels_in_mm():
    plane = np.zeros((10, 12), np.uint8)
    plane[2:6, 3:9] = 2
    paths = dict(
        zip([line.title for line in outlines_of(EMIDEC)], outlines(plane, (1.5, 2.0), outlines_of(EMIDEC)), strict=True)
    )
    assert [title for title, path in paths.items() if path] == ["epicardium"]
    points = np.array([pair.split() for pair in paths["epicardium"].strip("MZ").split("L")], float)
    np.testing.assert_allclose(points.min(0), (6, 3), atol=0.06)
    np.testing.assert_allclose(points.max(0), (18, 9), atol=0.06)
