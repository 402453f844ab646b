"""What the viewer shows lies where the file has it, in its true size, and drawings come back voxel by voxel."""

import nibabel as nib
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cascade_jax.review.display import drawing_of, image_file, labels_of

SHAPE = (3, 5, 4)


def test_the_viewer_gets_the_true_spacing_and_y_upwards():
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    shown = nib.Nifti1Image.from_bytes(image_file(image, (10.0, 1.5, 1.25)))
    assert shown.header.get_zooms() == (1.25, 1.5, 10.0)
    assert np.array_equal(shown.affine, np.diag([1.25, 1.5, 10.0, 1.0]))
    assert np.array_equal(np.asarray(shown.dataobj), image.transpose(2, 1, 0)[:, ::-1])
    assert shown.header["cal_min"] < shown.header["cal_max"]


@given(st.integers(0, 2), st.integers(0, 4), st.integers(0, 3), st.integers(1, 4))
def test_a_voxel_that_is_drawn_comes_back_at_its_own_index(depth, row, column, label):
    drawing = bytearray(drawing_of(np.zeros(SHAPE, np.uint8)))
    drawing[column + 4 * (4 - row) + 20 * depth] = label  # as the viewer counts: x, then y upwards, then slice
    labels = labels_of(bytes(drawing), SHAPE)
    assert labels[depth, row, column] == label
    assert np.count_nonzero(labels) == 1


def test_what_nobody_has_changed_comes_back_the_same():
    labels = np.random.default_rng(0).integers(0, 5, SHAPE).astype(np.uint8)
    assert np.array_equal(labels_of(drawing_of(labels), SHAPE), labels)
