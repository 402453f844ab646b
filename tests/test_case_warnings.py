"""What a reader is warned of, and what not."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cascade_jax import case_warnings
from cascade_jax.case_warnings import (
    CaseWarning,
    codes,
    from_one_line,
    in_one_line,
    warnings_of_input,
    warnings_of_labels,
)
from cascade_jax.data.case import Case
from cascade_jax.data.labels import make_label_table
from cascade_jax.data.orientation import geometry_of_case, lies_along_the_body

SPACING = (10.0, 1.5, 1.5)
DOCUMENT = Path(__file__).parents[1] / "docs" / "predict.md"
# A short axis: the slices' normal points to the left, forwards and down, as a heart's axis does.
NORMAL = np.array([-0.6, 0.6, -0.53]) / np.linalg.norm([-0.6, 0.6, -0.53])


def cylinder(depth=8, tilt=0):
    """A heart of one shape in every slice, moved on by `tilt` pixels a slice."""
    labels = np.zeros((depth, 60, 80), np.uint8)
    for index in range(depth):
        labels[index, 20:30, 15 + tilt * index : 25 + tilt * index] = 2
    return labels


def shifted_slices(labels):
    """The slices, from 1, that warnings say are out of place."""
    found = (re.match(r"slice (\d+) lies", text) for _, text in warnings_of_labels(labels, SPACING))
    return [int(match[1]) for match in found if match]


@pytest.mark.parametrize("tilt", [0, 3])
@pytest.mark.parametrize("moved", [[1], [4], [8], [2, 7], []])
@pytest.mark.parametrize("stray", [False, True])
def test_the_slices_out_of_place_are_named_and_no_others(moved, tilt, stray):
    labels = cylinder(tilt=tilt)
    for number in moved:
        labels[number - 1] = np.roll(labels[number - 1], 9, axis=0)  # 13.5 mm
    labels[5, 50:53, 70:73] = 2 * stray
    assert shifted_slices(labels) == moved


def test_labels_are_warned_of_in_words():
    labels = cylinder(depth=5)
    assert warnings_of_labels(labels, SPACING) == ()
    labels[0] = np.roll(labels[0], 9, axis=0)
    off = CaseWarning("slice-out-of-place", "slice 1 lies 14 mm off the line through the other slices")
    assert warnings_of_labels(labels, SPACING) == (off,)
    assert warnings_of_labels(labels[:4], SPACING) == (), "four slices do not tell which of them is out of place"
    labels[1] = 0
    gap = CaseWarning("slice-gap", "no myocardium in slice 2, between slices that have some")
    assert warnings_of_labels(labels, SPACING) == (gap,)
    assert warnings_of_labels(0 * labels, SPACING) == (CaseWarning("no-heart", "nothing is outlined in any slice"),)
    cavity = np.where(labels == 2, 1, 0)
    assert warnings_of_labels(cavity, SPACING) == (CaseWarning("no-myocardium", "no myocardium was found"),)


def test_too_few_slices_are_warned_of_in_the_stack_and_with_myocardium():
    labels = cylinder()
    labels[2:] = 0
    assert warnings_of_labels(labels, SPACING) == (
        CaseWarning("few-slices", "myocardium in 2 slices of 8, fewer than 3"),
    )
    labels[2] = labels[1]
    assert warnings_of_labels(labels, SPACING) == ()
    assert warnings_of_labels(labels[:3], SPACING) == (
        CaseWarning("few-slices", "the stack has 3 slices, fewer than 4"),
    )
    one = warnings_of_labels(labels[:1], (np.nan, 1.5, 1.5))
    assert codes(one) == "few-slices, no-thickness"


def test_other_labels_are_called_by_their_own_name():
    table = make_label_table(("background", "liver"), [("liver", ("liver",))])
    labels = np.where(cylinder() == 2, 1, 0).astype(np.uint8)
    labels[2:] = 0
    assert warnings_of_labels(labels, SPACING, table)[0].text == "liver in 2 slices of 8, fewer than 3"


@pytest.mark.parametrize(
    ("spacing", "slices", "said"),
    [
        ((10.0, 1.8, 1.8), 8, ""),
        ((8.0, 1.25, 1.25), 8, ""),  # the ends of what the challenge's cases have
        ((13.0, 2.0, 2.0), 8, ""),
        ((10.0, 0.6, 0.6), 8, "voxels of 0.6 mm, and the networks were trained on about 1.8 mm"),
        ((10.0, 1.8, 3.0), 8, "voxels of 1.8 x 3 mm, and the networks were trained on about 1.8 mm"),
        ((5.0, 1.8, 1.8), 8, "a slice distance of 5 mm, and the networks were trained on about 10 mm"),
        ((20.0, 1.8, 1.8), 8, "a slice distance of 20 mm, and the networks were trained on about 10 mm"),
        ((3.0, 1.8, 1.8), 1, ""),  # the thickness of a single slice, which changes nothing
        ((np.nan, 1.8, 1.8), 1, ""),
    ],
)
def test_a_spacing_unlike_the_training_cohorts_is_named_beside_it(spacing, slices, said):
    case = Case("any", np.zeros((slices, 20, 20), np.float32), None, spacing)
    assert [warning.text for warning in warnings_of_input(case, (10.0, 1.8, 1.8))] == [said] * bool(said)


def with_affine(directions, origin, size=(1.8, 1.8, 10.0), order=(0, 1, 2)):
    """A case whose file says that its (x, y, slice) lie in these directions."""
    affine = np.eye(4)
    affine[:3, :3] = (np.array(directions).T * size)[:, order]
    affine[:3, 3] = origin
    image = nib.Nifti1Image(np.zeros(np.array((60, 50, 8))[list(order)], np.float32), affine)
    image.header.set_sform(affine, 1)
    image.header.set_qform(affine, 1)
    return Case("any", np.zeros((8, 50, 60), np.float32), None, size[::-1], image.header)


def frame(normal):
    """Directions of x, y and slice at right angles."""
    x = np.cross(normal, (0.2, 0.9, 0.4))
    x /= np.linalg.norm(x)
    return x, np.cross(normal, x), normal


PLANES = {
    "axial": [(1, 0, 0), (0, 1, 0), (0, 0, 1)],
    "coronal": [(1, 0, 0), (0, 0, -1), (0, 1, 0)],
    "sagittal": [(0, 1, 0), (0, 0, 1), (1, 0, 0)],
}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("plane", PLANES)
def test_slices_along_the_body_are_no_short_axis(plane, order):
    case = with_affine(PLANES[plane], (-90.0, 40.0, 12.0), order=order)
    (warning,) = warnings_of_input(case, (10.0, 1.8, 1.8))
    assert warning == ("not-short-axis", f"the slices are {plane} by their file, and a short axis is oblique")
    normal = np.add(PLANES[plane][2], (0.1, 0.15, 0.1))
    tilted = with_affine(frame(normal / np.linalg.norm(normal)), (0.0, 0.0, 0.0), order=order)
    assert lies_along_the_body(geometry_of_case(tilted)) == plane, "an angle is no placeholder, wherever it begins"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_short_axis_is_not_warned_of(order):
    case = with_affine(frame(NORMAL), (-90.0, 40.0, 12.0), order=order)
    assert geometry_of_case(case).affine is not None
    assert warnings_of_input(case, (10.0, 1.8, 1.8)) == ()


def test_what_says_nothing_of_its_orientation_is_not_warned_of():
    placeholder = with_affine([(-1, 0, 0), (0, -1, 0), (0, 0, 1)], (0.0, 0.0, 0.0))
    assert geometry_of_case(placeholder).affine is not None
    header = with_affine(PLANES["axial"], (5.0, 0.0, 0.0)).header
    header.set_sform(np.diag((-1, -1, 1, 1)), 2)  # the challenge's
    header.set_qform(None, 0)
    challenge = Case("any", placeholder.image, None, SPACING, header)
    array = Case("any", placeholder.image, None, SPACING)
    for case in (placeholder, challenge, array):
        assert warnings_of_input(case, (10.0, 1.8, 1.8)) == ()


def test_a_cell_of_a_table_holds_them_all():
    some = (*warnings_of_labels(cylinder()[:2], (np.nan, 1.5, 1.5)), CaseWarning("series", "series 5: a, b (c)"))
    assert len(some) == 3
    assert from_one_line(in_one_line(some)) == some
    assert from_one_line(in_one_line(())) == ()
    assert codes([*some, *some]) == "few-slices, no-thickness, series"


def test_every_code_is_documented_and_no_other():
    known = {value for name, value in vars(case_warnings).items() if name.isupper() and isinstance(value, str)}
    assert len(known) == 16
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", code) for code in known)
    table = re.search(r"^## What to look at\n(.*?)^## ", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)[1]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == known
