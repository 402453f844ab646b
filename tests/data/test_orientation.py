"""What an affine says of how slices lie, where it can be believed."""

import nibabel as nib
import numpy as np

from cascade_jax.data import emidec, orientation
from cascade_jax.data.geometry import geometry_of_header


def test_only_a_credible_oblique_affine_says_how_slices_lie():
    axes = np.array([[-0.8, 0.36, 0.48], [-0.6, -0.48, -0.64], [0.0, -0.8, 0.6]])  # across, down, normal in RAS
    affine = np.eye(4)
    affine[:3, :3] = axes * (1.5, 1.5, 10.0)
    right = np.linalg.det(axes) > 0
    for matrix, zooms, expected in (
        (affine, (1.5, 1.5, 10.0), right),
        (affine * (1, -1, 1, 1), (1.5, 1.5, 10.0), not right),
        (np.diag([1.5, 1.5, 10.0, 1.0]), (1.5, 1.5, 10.0), None),  # not a short axis
    ):
        header = nib.Nifti1Header()
        header.set_data_shape((4, 4, 3))
        header.set_sform(matrix, code=1)
        header["pixdim"][1:4] = zooms
        assert orientation.right_handed(geometry_of_header(header)) == expected
    header["sform_code"] = header["qform_code"] = 0
    assert orientation.right_handed(geometry_of_header(header)) is None
    header["qform_code"], header["quatern_b"] = 1, 2.0  # no quaternion
    assert orientation.right_handed(geometry_of_header(header)) is None


def test_a_credible_affine_says_which_side_of_the_body_is_where():
    normal, across = np.array([0.6, 0.64, 0.48]), np.array([-0.8, 0.48, 0.36])  # in RAS: right, anterior, head
    down = np.cross(normal, across)
    np.testing.assert_allclose(down, [0.0, -0.6, 0.8])
    header = nib.Nifti1Header()
    header.set_data_shape((4, 4, 3))
    header["pixdim"][1:4] = 1.5, 1.5, 10.0
    affine = np.eye(4)
    affine[:3, :3] = np.stack([across, down, normal], axis=1) * (1.5, 1.5, 10.0)
    header.set_sform(affine, code=1)
    sides = orientation.sides_of_picture(geometry_of_header(header))
    assert sides == {"left": "R", "right": "L", "top": "FA", "bottom": "HP"}
    header.set_sform(affine * (-1, 1, 1, 1), code=1)
    assert orientation.sides_of_picture(geometry_of_header(header)) == sides | {"left": "L", "right": "R"}
    header.set_sform(np.eye(4), code=1)
    assert orientation.sides_of_picture(geometry_of_header(header)) is None


def test_an_affine_that_is_not_of_the_voxels_size_is_replaced_and_another_kept():
    header = nib.Nifti1Header()
    header.set_data_shape((5, 4, 3))
    header.set_sform(np.eye(4), code=1)
    header["pixdim"][1:4] = 1.5, 1.5, 10.0
    case = emidec.Case("case", np.zeros((3, 4, 5), np.float32), None, (10.0, 1.5, 1.5), header)
    repaired = orientation.with_true_affine(case)
    np.testing.assert_allclose(repaired.header.get_best_affine(), np.diag([1.5, 1.5, 10.0, 1.0]))
    np.testing.assert_allclose(repaired.header.get_zooms(), (1.5, 1.5, 10.0))
    assert orientation.with_true_affine(repaired) is repaired
