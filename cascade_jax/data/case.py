"""One patient's short-axis stack: the image, its labels where they are known, and the header it came with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from cascade_jax.errors import CaseError as CaseError

if TYPE_CHECKING:  # so that who asks for a label's name waits for neither
    import nibabel as nib
    import numpy as np

T = TypeVar("T")

BACKGROUND, CAVITY, MYOCARDIUM, INFARCTION, NO_REFLOW = range(5)
LABEL_NAMES = ("background", "cavity", "myocardium", "infarction", "no_reflow")


def number_of_cases(count: int) -> str:
    """In words: "1 case", "2 cases"."""
    return "1 case" if count == 1 else f"{count} cases"


def some_of(cases: Sequence[T], count: int) -> list[T]:
    """So many of some cases, from the first to the last; all where there are no more."""
    import numpy as np

    return [cases[index] for index in np.unique(np.linspace(0, len(cases) - 1, count).astype(int))]


@dataclasses.dataclass(frozen=True)
class Case:
    """A stack of slices in the library's axis order: depth (slice), height (y), width (x).

    Attributes:
        name: the case's name, unique within a cohort.
        image: float32, (depth, height, width), the file's own intensities. A constant value that reaches the edge of a
            slice is the border around the registered field of view, not tissue (`border.outside_field_of_view`).
        labels: uint8, (depth, height, width), 0 to 4 as in `LABEL_NAMES`, or None where no reader has drawn them.
        spacing: mm along (depth, height, width); along the depth NaN for a single slice of unknown thickness.
        header: the file's own NIfTI header, with which results are written back, or None for a case that never was
            a file.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray | None
    spacing: tuple[float, float, float]
    header: nib.Nifti1Header | None = None
