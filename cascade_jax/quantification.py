"""From folders of labels to tables of quantities, one row a case, a slice or a segment."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cascade_jax.data import emidec
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import make_writable_folder, replacing
from cascade_jax.preparation import Progress
from cascade_jax.quantify import Quantities, quantify


def quantify_folder(
    labels: Path, images: Path | None, output: Path, insertion: float | None, progress: Progress
) -> dict[str, str]:
    """Measures every case and writes `cases.csv`, `slices.csv` and `segments.csv`.

    Args:
        labels: in the challenge's layout, such as what `launch.predict` wrote.
        images: the images of the same cases: a file, a folder of them or a cohort; None does without.
        output: the folder for the tables.
        insertion: angle of the right ventricle's anterior insertion, degrees, if it is known.
        progress: wraps the loop with a bar.

    Returns:
        {case: reason} of those that failed; the others are in the tables.

    Raises:
        CaseError: there are no labels, or the output cannot be written.
    """
    failed: dict[str, str] = {}
    contours = emidec.find_contours(labels, faults=failed)
    files = {} if images is None else {file.name: file for file in emidec.find_inputs(images, faults=failed)}
    make_writable_folder(output)
    measured: dict[str, Quantities] = {}
    for name in progress(sorted(contours), f"measuring {len(contours)} case{'s' if len(contours) > 1 else ''}"):
        try:
            measured[name] = _quantify_case(name, contours[name], files, images, insertion)
        except CaseError as error:
            failed[name] = str(error)
    tables = {
        "cases": [{"case": name} | quantities.case for name, quantities in measured.items()],
        "slices": [{"case": name} | row for name, quantities in measured.items() for row in quantities.slices],
        "segments": [{"case": name} | row for name, quantities in measured.items() for row in quantities.segments],
    }
    for title, rows in tables.items():
        _write_table(output / f"{title}.csv", rows)
    return failed


def _quantify_case(
    name: str,
    contour: Path,
    files: Mapping[str, emidec.CaseFiles],
    images: Path | None,
    insertion: float | None,
) -> Quantities:
    mask, spacing = emidec.read_labels(contour)
    image = None
    if images is not None:
        if name not in files:
            raise CaseError(images, f"holds no image of case {name}")
        # Without its own contour, which need not be the one that is measured.
        image = emidec.to_file_axes(emidec.read_case(dataclasses.replace(files[name], contour=None)).image)
        if image.shape[::-1] != mask.shape:
            raise CaseError(contour, "is not of its image's shape")
    right_handed = emidec.read_right_handed(contour)
    return quantify(emidec.to_file_axes(mask), spacing[::-1], image, insertion=insertion, right_handed=right_handed)


def _write_table(path: Path, rows: Sequence[Mapping]) -> None:
    """Writes rows of the same columns as CSV; NaN becomes an empty field."""
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(list(rows[0]) if rows else ["case"])
        for row in rows:
            writer.writerow([_field(value) for value in row.values()])


def _field(value) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4g}"
    return str(value)
