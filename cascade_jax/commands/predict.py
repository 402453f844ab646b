"""From files to files: every case of a folder through a trained cascade."""

import dataclasses
from pathlib import Path

import numpy as np

from cascade_jax.cascade import Cascade
from cascade_jax.case_warnings import CaseWarning
from cascade_jax.commands.pipeline import overlapped
from cascade_jax.confidence import Confidence, most_doubtful_first
from cascade_jax.data import emidec, folders, orientation
from cascade_jax.data.case import Case, number_of_cases
from cascade_jax.data.files import make_writable_folder
from cascade_jax.data.labels import EMIDEC, LabelTable
from cascade_jax.data.orientation import with_true_affine
from cascade_jax.data.outputs import locked, recording_outputs, refuse_to_replace
from cascade_jax.extras import missing
from cascade_jax.progress import Progress
from cascade_jax.quantify.quantities import Quantities, quantify
from cascade_jax.report.confidence import CONFIDENCE_TABLE, read_confidence, write_confidence
from cascade_jax.report.figures import COLOUR_TABLES, draw_case, write_colour_tables
from cascade_jax.report.insertions import known_insertions
from cascade_jax.segmentation import Segmentation

TABLES = (CONFIDENCE_TABLE, *COLOUR_TABLES)  # of a folder of predictions
_MAPS = (folders.DOUBT, folders.DISAGREEMENT)


def predict_cases(
    cascade: Cascade, source: Path, output: Path, figures: bool, progress: Progress, *, images: bool = False
) -> tuple[dict[str, tuple[CaseWarning, ...]], dict[str, str]]:
    """Segments every case of `source` and writes its labels; a bad case does not keep the others from it.

    `output/confidence.csv` has what the cascade says of each case there, the most doubtful first; `output/labels.ctbl`
    and `dseg.tsv` tell viewers the labels' names and colours.

    Args:
        cascade: the trained cascade.
        source: an image file (`data.formats`), a folder of them, or a cohort in the challenge's layout.
        output: labels go to `output/<case>/Contours/<case>.nii.gz`.
        figures: also write `output/<case>/Doubt/<case>.nii.gz`, the share of doubt in every voxel, and, if several
            folds vote, `output/<case>/Disagreement/<case>.nii.gz`, the share of them that vote otherwise; and, where
            the extra "report" is installed, draw `output/<case>/<case>.png`, beside the truth where there is one.
        progress: wraps the loop with a bar.
        images: also write `output/<case>/Images/<case>.nii.gz`, and give all that is written of a case an affine of its
            voxels' true size where its file's own says another.

    Returns:
        {case: warnings} of the cases to look at, the most doubtful first, and {case: reason} of those that failed.

    Raises:
        CaseError: the source holds no case at all, the output has a table of other labels, or a file there that is not
            of an earlier prediction would be replaced.
    """
    failed: dict[str, str] = {}
    said: dict[str, Confidence] = {}
    table = cascade.plan.labels
    files = folders.find_inputs(source, faults=failed)
    refuse_to_replace(output, [name for file in files for name in files_of(file.name, images)])
    refuse_to_replace(output, TABLES)
    make_writable_folder(output)
    read_confidence(output, table)

    def read(file: folders.CaseFiles) -> Case:
        case = emidec.read_case(file, table)
        return with_true_affine(case) if images else case

    def compute(worker: Cascade, case: Case) -> tuple[Case, Segmentation]:
        return case, worker.segment_case(case, details=figures)

    def write(_, done: tuple[Case, Segmentation]) -> Confidence:
        case, result = done
        with recording_outputs(output, files_of(case.name, images)):
            write_prediction(output, case, result, table, figures=figures, images=images)
        return result.confidence

    shown = progress(files, f"segmenting {number_of_cases(len(files))} of {source}")
    for file, confidence, error in overlapped(shown, read, compute, write, cascade.for_cases(len(files))):
        if error is None:
            said[file.name] = confidence
        else:
            failed[file.name] = str(error)
    write_tables(output, said, table)
    ranked = most_doubtful_first(said)
    return {name: one.warnings for name, one in ranked.items() if one.warnings}, failed


def write_tables(output: Path, said: dict[str, Confidence], table: LabelTable) -> None:
    """Writes `TABLES`; cases that were predicted into the folder before keep their rows."""
    with recording_outputs(output, TABLES):
        write_colour_tables(output, table)
        with locked(output):  # others may predict into the same folder
            write_confidence(output, read_confidence(output, table) | said, table)


def files_of(name: str, images: bool) -> list[str]:
    """What a prediction of a case writes, or removes, in the output."""
    kinds = (folders.CONTOURS, *_MAPS, *((folders.IMAGES,) if images else ()))
    return [str(emidec.path_in(Path(), kind, name)) for kind in kinds] + [f"{name}/{name}.png"]


def write_prediction(
    output: Path, case: Case, result: Segmentation, table: LabelTable, *, figures: bool, images: bool
) -> None:
    """Writes what `predict_cases` says of one case, but for the folder's tables; raises CaseError as that does."""
    if images:
        emidec.write_case(output, dataclasses.replace(case, labels=None))
    emidec.write_labels(output, result.labels, case)
    emidec.write_maps(output, result.maps, case)
    if figures and not missing("report"):
        truth = {} if case.labels is None else {"truth": case.labels}
        draw_case(
            output / case.name / f"{case.name}.png",
            case.image,
            {**truth, "prediction": result.labels},
            spacing=case.spacing,
            title=case.name,
            table=table,
            insertions=insertions_in(case, result.labels, table),
        )


def insertions_in(case: Case, labels: np.ndarray, table: LabelTable) -> dict[str, float] | None:
    """Where a case's picture marks the right ventricle's insertions; None where nothing is known of such a thing."""
    if table != EMIDEC or np.isnan(case.spacing[0]):
        return None
    return known_insertions(measure_case(case, labels).case)


def measure_case(case: Case, labels: np.ndarray) -> Quantities:
    """The quantities of the challenge's labels (depth, height, width), with the right ventricle sought in the image."""
    right_handed = orientation.right_handed(orientation.geometry_of_case(case))
    arrays = (emidec.to_file_axes(array) for array in (labels, case.image))
    return quantify(next(arrays), case.spacing[::-1], next(arrays), right_handed=right_handed)
