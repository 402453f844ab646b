"""The table that says how each heart lies."""

import pytest

from cascade_jax.data.case import CaseError
from cascade_jax.quantify.orientations import Orientation, read_orientations


def test_a_table_says_how_cases_lie(tmp_path):
    path = tmp_path / "insertions.csv"
    path.write_text("\ufeffcase,insertion_degrees,reader,mirrored,base_first\nA,120.5,x,no,Yes\nB,,,,\nC,-10\n")
    assert read_orientations(path) == {
        "A": Orientation(120.5, True, False),
        "B": Orientation(),
        "C": Orientation(-10.0),
    }


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "has no column case"),
        ("case,angle\nA,1\n", "has no column insertion_degrees"),
        ("case,insertion_degrees\nA,left\n", "'left' for A; a number"),
        ("case,insertion_degrees\nA,nan\n", "'nan' for A; a number"),
        ("case,insertion_degrees\nA,1\nA,2\n", "line 3 has A again"),
        ("case,insertion_degrees\n,2\n", "line 2 has no case"),
        ("case,insertion_degrees,mirrored\nA,2,perhaps\n", "'perhaps' for A; yes, no"),
        (b"case,insertion_degrees\n\xff\xfe", "is not a text file"),
        (None, "cannot be read: No such file"),
    ],
)
def test_an_unusable_table_of_insertions_is_refused(tmp_path, content, fault):
    path = tmp_path / "insertions.csv"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CaseError, match=fault) as caught:
        read_orientations(path)
    assert str(caught.value).startswith(f"{path}: ")
