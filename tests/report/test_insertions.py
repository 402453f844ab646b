"""The marks of the right ventricle's insertions."""

import json
import re

import numpy as np

from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CAVITY
from cascade_jax.quantify.orientations import Orientation
from cascade_jax.report.insertions import insertion_marks
from cascade_jax.report.quantities import measure


def test_the_insertions_are_marked_on_slices_and_bullseye(report):
    text = report[0].read_text()
    for index, name in enumerate(report[1]):
        case = emidec.read_case(
            next(file for file in folders.find_cases(report[0].parent / "cohort") if file.name == name)
        )
        measured = measure({"truth": case.labels}, case.spacing, case.image, Orientation(), None)
        assert set(measured.insertions) == {"A", "I"}
        data = json.loads(re.search(rf'id="data-{index}">(.*?)</script>', text)[1])
        assert len(data["marks"]) == len(case.labels)
        for marks, plane in zip(data["marks"], case.labels, strict=True):
            assert [mark[0] for mark in marks] == (["A", "I"] if (plane == CAVITY).any() else [])
        page = text[text.index(f'id="page-{index}"') :]
        page = page[: page.index("</main>")]
        marked = re.findall(r'class="mark-letter">([AI])</text>', page)
        assert marked == ["A", "I"] * 6, "on three bullseyes of prediction and truth each"
        assert "A, I: anterior and inferior insertion of the right ventricle" in page
        assert "its inferior insertion lies at" in page


def test_a_mark_lies_where_a_spoke_leaves_the_myocardium():
    labels = np.zeros((2, 60, 80), np.uint8)
    y, x = np.indices((60, 80))
    for index, (row, column) in enumerate(((30, 40), (25, 38))):
        radius = np.hypot(y - row, x - column)
        labels[index] = np.where(radius < 10, 1, np.where(radius < 15, 2, 0))
    marks = insertion_marks(labels, (10.0, 2.0, 2.0), {"A": 90.0, "I": 180.0})
    for here, (row, column) in zip(marks, ((30, 40), (25, 38)), strict=True):
        (a, *upwards), (i, *leftwards) = here
        assert (a, i) == ("A", "I")
        middle_x, middle_y = 2 * (column + 0.5), 2 * (row + 0.5)
        np.testing.assert_allclose(upwards, (middle_x, middle_y - 31, middle_x, middle_y - 38), atol=2)
        np.testing.assert_allclose(leftwards, (middle_x - 31, middle_y, middle_x - 38, middle_y), atol=2)
    labels[1][labels[1] == 1] = 2
    assert insertion_marks(labels, (10.0, 2.0, 2.0), {"A": 90.0})[1] == []
