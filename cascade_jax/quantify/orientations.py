"""What a reader has seen of how cases' slices lie, from a table."""

import dataclasses
import math
from pathlib import Path

from cascade_jax.data.case import CaseError
from cascade_jax.data.files import read_table

_ANSWERS = {"yes": True, "no": False, "": None}


@dataclasses.dataclass(frozen=True)
class Orientation:
    """What someone has seen of how a case's slices lie; None is unknown.

    Attributes:
        insertion: angle of the right ventricle's anterior insertion, degrees counter-clockwise from the right of a
            slice as it is looked at.
        base_first: whether the first slice is the most basal one.
        mirrored: whether the slices are mirrored, against the view from the apex.
    """

    insertion: float | None = None
    base_first: bool | None = None
    mirrored: bool | None = None


def read_orientations(path: Path) -> dict[str, Orientation]:
    """What a table says of how cases lie.

    Args:
        path: a CSV file with the columns `case` and `insertion_degrees` and, where they are known, `base_first` and
            `mirrored` with yes or no. An empty field is unknown; other columns are ignored.

    Returns:
        {case: what is said of it}.

    Raises:
        CaseError: the file cannot be read or lacks a column, a case has no name or two rows, a degree is no number, or
            an answer is neither yes nor no.
    """
    path = Path(path)
    result: dict[str, Orientation] = {}
    for line, row in read_table(path, "case", "insertion_degrees"):
        name = row["case"].strip()
        if not name or name in result:
            raise CaseError(path, f"line {line} has " + (f"{name} again" if name else "no case"))
        insertion = _degrees(path, name, row["insertion_degrees"])
        answers = (_answer(path, name, column, row.get(column, "")) for column in ("base_first", "mirrored"))
        result[name] = Orientation(insertion, *answers)
    return result


def _degrees(path: Path, name: str, field: str) -> float | None:
    if not field.strip():
        return None
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CaseError(path, f"has the insertion_degrees {field!r} for {name}; a number is needed")
    return value


def _answer(path: Path, name: str, column: str, field: str) -> bool | None:
    if (answer := field.strip().lower()) not in _ANSWERS:
        raise CaseError(path, f"has the {column} {field!r} for {name}; yes, no or nothing is needed")
    return _ANSWERS[answer]
