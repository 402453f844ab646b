"""From folders of labels to tables of quantities, one row a case, a slice or a segment."""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cascade_jax.data import emidec, orientation
from cascade_jax.data.case import (
    BACKGROUND,
    CAVITY,
    INFARCTION,
    MYOCARDIUM,
    NO_REFLOW,
    CaseError,
    number_of_cases,
)
from cascade_jax.data.files import make_writable_folder, replacing
from cascade_jax.data.labels import EMIDEC, LabelTable, spoken
from cascade_jax.data.outputs import making, refuse_to_replace
from cascade_jax.expected_dice import read_expected_dice
from cascade_jax.progress import Progress
from cascade_jax.quantify import Quantities, quantify

_LEAST_OUTSIDE = 0.3  # of muscle's border with background and cavity; where muscle surrounds, more than half
_LARGE_INFARCT = 0.3  # of the muscle
_LEAST_CONTACT = 0.01  # of the infarct's border


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


TABLES = ("cases", "slices", "segments")  # the files that are written, without their ending
_ANSWERS = {"yes": True, "no": False, "": None}


def read_orientations(path: Path) -> dict[str, Orientation]:
    """What a table says of how cases lie.

    Args:
        path: a CSV file with the columns `case` and `insertion_degrees` and, where they are known, `base_first` and
            `mirrored` with yes or no. An empty field is unknown; other columns are passed over.

    Returns:
        {case: what is said of it}.

    Raises:
        CaseError: the file cannot be read or lacks a column, a case has no name or two rows, a degree is no number, or
            an answer is neither yes nor no.
    """
    path = Path(path)
    try:
        # Spreadsheets begin a CSV file with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CaseError(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CaseError(path, "is not a text file") from None
    rows = csv.DictReader(io.StringIO(text, newline=""), restval="")
    try:
        for column in ("case", "insertion_degrees"):
            if column not in (rows.fieldnames or ()):
                raise CaseError(path, f"has no column {column}")
        result: dict[str, Orientation] = {}
        for row in rows:
            name = row["case"].strip()
            if not name or name in result:
                raise CaseError(path, f"line {rows.line_num} has " + (f"{name} again" if name else "no case"))
            insertion = _degrees(path, name, row["insertion_degrees"])
            answers = (_answer(path, name, column, row.get(column, "")) for column in ("base_first", "mirrored"))
            result[name] = Orientation(insertion, *answers)
    except csv.Error as error:
        raise CaseError(path, f"is not a CSV file: {error}") from None
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


def quantify_folder(
    labels: Path,
    images: Path | None,
    output: Path,
    insertion: float | None,
    progress: Progress,
    orientations: Mapping[str, Orientation] | None = None,
) -> dict[str, str]:
    """Measures every case and writes `cases.csv`, `slices.csv` and `segments.csv`.

    Args:
        labels: in the challenge's layout, such as what `launch.predict` wrote.
        images: the images of the same cases: a file, a folder of them or a cohort; None does without.
        output: the folder for the tables.
        insertion: angle of the right ventricle's anterior insertion, degrees, if it is known for all cases.
        progress: wraps the loop with a bar.
        orientations: {case: what is known of it}, which goes before `insertion`.

    Returns:
        {case: reason} of those that failed; the others are in the tables.

    Raises:
        CaseError: there are no labels, or a cascade's of another table; the output cannot be written.
    """
    failed: dict[str, str] = {}
    contours = emidec.find_contours(labels, faults=failed)
    files = {} if images is None else {file.name: file for file in emidec.find_inputs(images, faults=failed)}
    read_expected_dice(Path(labels), EMIDEC)  # which says by its columns if a cascade wrote labels of another table
    refuse_to_replace(output, [f"{title}.csv" for title in TABLES])
    make_writable_folder(output)
    everywhere = Orientation(insertion)
    known = {
        name: dataclasses.replace(orientation, insertion=insertion) if orientation.insertion is None else orientation
        for name, orientation in (orientations or {}).items()
    }
    measured: dict[str, Quantities] = {}
    for name in progress(sorted(contours), f"measuring {number_of_cases(len(contours))}"):
        try:
            measured[name] = _quantify_case(name, contours[name], files, images, known.get(name, everywhere))
        except CaseError as error:
            failed[name] = str(error)
    rows_of = (
        [{"case": name} | quantities.case for name, quantities in measured.items()],
        [{"case": name} | row for name, quantities in measured.items() for row in quantities.slices],
        [{"case": name} | row for name, quantities in measured.items() for row in quantities.segments],
    )
    tables = dict(zip(TABLES, rows_of, strict=True))
    with making(output, [f"{title}.csv" for title in TABLES]):
        for title, rows in tables.items():
            _write_table(output / f"{title}.csv", rows)
    return failed


def _quantify_case(
    name: str,
    contour: Path,
    files: Mapping[str, emidec.CaseFiles],
    images: Path | None,
    known: Orientation,
) -> Quantities:
    geometry, image, reference = emidec.read_geometry(contour), None, ""
    if images is not None:
        if name not in files:
            raise CaseError(images, f"holds no image of case {name}")
        # Without its own contour, which need not be the one that is measured.
        image = emidec.to_file_axes(emidec.read_case(dataclasses.replace(files[name], contour=None)).image)
        geometry, reference = emidec.read_geometry(files[name].image), f"its image {files[name].image.name}"
    mask, spacing = emidec.read_labels(contour, like=geometry, name=reference)
    if np.isnan(spacing[0]):
        raise CaseError(contour, "is a single slice of unknown thickness, which has no volumes")
    if fault := unlike_a_heart(mask):
        raise CaseError(contour, f"is not labelled as the challenge is: {fault}")
    return quantify(
        emidec.to_file_axes(mask),
        spacing[::-1],
        image,
        insertion=known.insertion,
        base_first=known.base_first,
        mirrored=known.mirrored,
        right_handed=orientation.right_handed(geometry),
    )


def unlike_a_heart(labels: np.ndarray) -> str | None:
    """Why labels, read by the challenge's table, are no heart whose muscle surrounds its cavity; None if they may be.

    Files do not say by which table they are labelled. The limits are far from any heart: in the 70 real cases that were
    tried, more than half of the muscle's border is with the background, and an infarct of more than a fifth of the
    muscle touches the cavity with 30 % of its border.

    Args:
        labels: (depth, height, width).

    Returns:
        In words, that there is a cavity but no muscle, that the cavity surrounds the muscle, or that a large infarct
        nowhere reaches the cavity.
    """
    labels = np.pad(labels, ((0, 0), (1, 1), (1, 1)))  # a heart may touch the edge
    if CAVITY in labels and not (labels >= MYOCARDIUM).any():
        return f"it holds a cavity ({CAVITY}) and no muscle"
    labels = labels[(labels == CAVITY).any((1, 2)) & (labels >= MYOCARDIUM).any((1, 2))]
    cavity, muscle, infarct = labels == CAVITY, labels >= MYOCARDIUM, labels >= INFARCTION
    outside, inside = _touching(muscle, labels == BACKGROUND), _touching(muscle, cavity)
    if outside < _LEAST_OUTSIDE * (outside + inside):
        return f"the cavity ({CAVITY}) surrounds the muscle ({MYOCARDIUM} to {NO_REFLOW})"
    large = infarct.sum() > _LARGE_INFARCT * muscle.sum()
    if large and _touching(infarct, cavity) < _LEAST_CONTACT * _touching(infarct, ~infarct):
        return f"a large infarct ({INFARCTION} and {NO_REFLOW}) lies away from the cavity ({CAVITY})"
    return None


def _touching(one: np.ndarray, other: np.ndarray) -> int:
    """How many sides the voxels of two masks (depth, height, width) share in the plane."""
    rows = np.count_nonzero(one[:, 1:] & other[:, :-1]) + np.count_nonzero(one[:, :-1] & other[:, 1:])
    columns = np.count_nonzero(one[:, :, 1:] & other[:, :, :-1]) + np.count_nonzero(one[:, :, :-1] & other[:, :, 1:])
    return rows + columns


def check_table(table: LabelTable, source) -> None:
    """Refuses labels of another table than the challenge's, which these quantities are of.

    Args:
        table: the labels' table.
        source: what it was read from, to be named.

    Raises:
        CaseError: it is another table.
    """
    if table != EMIDEC:
        has, needed = (", ".join(map(spoken, names)) for names in (table.names, EMIDEC.names))
        raise CaseError(source, f"has the labels {has}; only {needed} can be measured")


def _write_table(path: Path, rows: Sequence[Mapping]) -> None:
    """Writes rows of the same columns as CSV; NaN and None become empty fields."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(list(rows[0]) if rows else ["case"])
        for row in rows:
            writer.writerow([_field(value) for value in row.values()])


def _field(value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4g}"
    return str(value)
