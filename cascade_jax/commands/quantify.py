"""From folders of labels to tables of quantities, one row a case, a slice or a segment."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cascade_jax.data import emidec, folders, orientation
from cascade_jax.data.case import CaseError, number_of_cases
from cascade_jax.data.corrections import Correction, find_corrections
from cascade_jax.data.files import make_writable_folder, write_csv
from cascade_jax.data.labels import EMIDEC, LabelTable, display_name
from cascade_jax.data.outputs import recording_outputs, refuse_to_replace
from cascade_jax.progress import Progress
from cascade_jax.quantify.orientations import Orientation
from cascade_jax.quantify.plausibility import implausibility
from cascade_jax.quantify.quantities import Quantities, quantify
from cascade_jax.report.confidence import read_confidence

TABLES = ("cases", "slices", "segments")  # the files that are written, without their ending


def quantify_folder(
    labels: Path,
    images: Path | None,
    output: Path,
    insertion: float | None,
    progress: Progress,
    orientations: Mapping[str, Orientation] | None = None,
    corrected: bool = True,
) -> dict[str, str]:
    """Measures every case and writes `cases.csv`, `slices.csv` and `segments.csv`.

    Args:
        labels: in the challenge's layout, such as what `cascade-jax predict` wrote.
        images: the images of the same cases: a file, a folder of them or a cohort; None does without.
        output: the folder for the tables.
        insertion: angle of the right ventricle's anterior insertion, degrees, if it is known for all cases.
        progress: wraps the loop with a bar.
        orientations: {case: what is known of it}, which goes before `insertion`.
        corrected: take the labels that a reader has corrected, and the insertion that the reader put, where there are
            any (`data.corrections`); an insertion in `orientations` goes before it.

    Returns:
        {case: reason} of those that failed; the others are in the tables.

    Raises:
        CaseError: there are no labels, or a cascade's of another table; the output cannot be written.
    """
    failed: dict[str, str] = {}
    contours = folders.find_contours(labels, faults=failed)
    files = {} if images is None else {file.name: file for file in folders.find_inputs(images, faults=failed)}
    read_confidence(Path(labels), EMIDEC)  # which says by its columns if a cascade wrote labels of another table
    refuse_to_replace(output, [f"{title}.csv" for title in TABLES])
    make_writable_folder(output)
    everywhere = Orientation(insertion)
    faulty: dict[str, str] = {}
    corrections = find_corrections(Path(labels), faults=faulty) if corrected else {}
    failed |= faulty
    known = {name: orientation for name, orientation in (orientations or {}).items()}
    for name in known.keys() | corrections.keys():
        put = corrections[name].insertion if name in corrections else None
        case = known.get(name, Orientation())
        angles = (angle for angle in (case.insertion, put, insertion) if angle is not None)
        known[name] = dataclasses.replace(case, insertion=next(angles, None))
    measured: dict[str, Quantities] = {}
    measurable = sorted(contours.keys() - faulty.keys())
    for name in progress(measurable, f"measuring {number_of_cases(len(measurable))}"):
        try:
            measured[name] = _quantify_case(
                name, contours[name], files, images, known.get(name, everywhere), corrections.get(name)
            )
        except CaseError as error:
            failed[name] = str(error)
    rows_of = (
        [{"case": name} | quantities.case for name, quantities in measured.items()],
        [{"case": name} | row for name, quantities in measured.items() for row in quantities.slices],
        [{"case": name} | row for name, quantities in measured.items() for row in quantities.segments],
    )
    tables = dict(zip(TABLES, rows_of, strict=True))
    with recording_outputs(output, [f"{title}.csv" for title in TABLES]):
        for title, rows in tables.items():
            write_csv(output / f"{title}.csv", rows)
    return failed


def _quantify_case(
    name: str,
    contour: Path,
    files: Mapping[str, folders.CaseFiles],
    images: Path | None,
    known: Orientation,
    correction: Correction | None,
) -> Quantities:
    geometry, image, reference = emidec.read_geometry(contour), None, f"the prediction {contour.name}"
    if images is not None:
        if name not in files:
            raise CaseError(images, f"holds no image of case {name}")
        # Without its own contour, which need not be the one that is measured.
        image = emidec.to_file_axes(emidec.read_case(dataclasses.replace(files[name], contour=None)).image)
        geometry, reference = emidec.read_geometry(files[name].image), f"its image {files[name].image.name}"
    contour = contour if correction is None else correction.path
    mask, spacing = emidec.read_labels(contour, like=geometry, name=reference)
    if np.isnan(spacing[0]):
        raise CaseError(contour, "is a single slice of unknown thickness, which has no volumes")
    if fault := implausibility(mask):
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


def check_table(table: LabelTable, source) -> None:
    """Refuses labels of another table than the challenge's, which these quantities are of.

    Args:
        table: the labels' table.
        source: what it was read from, to be named.

    Raises:
        CaseError: it is another table.
    """
    if table != EMIDEC:
        has, needed = (", ".join(map(display_name, names)) for names in (table.names, EMIDEC.names))
        raise CaseError(source, f"has the labels {has}; only {needed} can be measured")
