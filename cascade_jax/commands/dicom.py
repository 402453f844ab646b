"""From a DICOM series to labels as NIfTI, as a DICOM segmentation, and in numbers as a structured report."""

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.datadict import tag_for_keyword

from cascade_jax.cascade import Cascade
from cascade_jax.case_warnings import codes, in_one_line, warnings_of_series
from cascade_jax.commands.predict import TABLES, insertions_in, measure_case, write_tables
from cascade_jax.confidence import Confidence, with_warnings
from cascade_jax.data import dicom, dicom_stack, emidec
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.dicom_report import structured_report
from cascade_jax.data.dicom_segmentation import AttributeFault, segmentation, source_images
from cascade_jax.data.files import make_writable_folder
from cascade_jax.data.labels import EMIDEC
from cascade_jax.data.outputs import refuse_to_replace
from cascade_jax.extras import missing
from cascade_jax.report.account import Account
from cascade_jax.report.confidence import read_confidence
from cascade_jax.report.figures import LABEL_COLOURS, draw_case
from cascade_jax.segmentation import Segmentation


def predict_series(
    cascade: Cascade, source: Path, output: Path, name: str, number: int | None, *, strict: bool = False
) -> tuple[list[str], list[str]]:
    """Segments one series.

    Args:
        cascade: the trained cascade.
        source: a folder or a zip archive of DICOM files, or one of many frames.
        output: image, labels and doubt go to `output/<name>/Images`, `Contours` and `Doubt` (and `Disagreement`, if
            several folds vote), beside `<name>.png` (where the extra "report" is installed), the segmentation
            `<name>.seg.dcm` and the structured report `<name>.sr.dcm`; to `output` the labels' names and colours, and
            `confidence.csv` with a row for each of its cases, the most doubtful first. The case's folder appears
            only when complete.
        name: the case's; one that the output does not have yet.
        number: the series' number, or None.
        strict: whether a warning counts as something that could not be done.

    Returns:
        Lines for the user: which files and series were skipped and why, what is to be known of the one that was not,
        and what was found in it. And a line for each of picture, segmentation and report that could not be made,
        with the attribute of the series that prevents it; with `strict` also one of the warnings' codes.

    Raises:
        CaseError: there is no such series, or it cannot be used; the case, or another program's file of a name that
            is written, exists already.
    """
    refuse_existing_case(output, name)
    folder = output / name
    if cascade.plan.labels != EMIDEC:
        raise CaseError(
            source, "the model has labels without DICOM codes; give `cascade-jax predict` the series as NIfTI"
        )
    read_confidence(output, EMIDEC)
    series, lines = dicom.choose_series(source, number)
    case = dicom.read_series(source, series, name)
    make_writable_folder(output)
    result = cascade.segment_case(case, details=True)
    confidence = with_warnings(result.confidence, warnings_of_series(series.remarks))
    result = result._replace(confidence=confidence)
    with tempfile.TemporaryDirectory(prefix=".", dir=output) as partial:
        left_out, emptied = write_series(Path(partial), series, case, result)
        try:
            (Path(partial) / name).rename(folder)
        except OSError as error:
            raise CaseError(folder, f"cannot be written: {error.strerror}") from None
    write_tables(output, {name: confidence}, EMIDEC)
    if emptied:
        lines.append(f"left empty in the DICOM objects, since the series has no valid value: {', '.join(emptied)}")
    look = f"; look at it: {in_one_line(confidence.warnings)}" if confidence.warnings else ""
    slices = "1 slice" if len(series.slices) == 1 else f"{len(series.slices)} slices"
    expected = f"expected Dice of the myocardium {confidence.expected_dice[EMIDEC.main]:.2f}"
    lines.append(f"{folder}: {series.name}, {slices}, {expected}{look}")
    if strict and confidence.warnings:
        left_out.append(f"{name}: {codes(confidence.warnings)} (--strict)")
    return lines, left_out


def write_series(
    root: Path, series: dicom_stack.Series, case: Case, result: Segmentation
) -> tuple[list[str], list[str]]:
    """Writes all that `predict_series` says of a case into `root/<case.name>`.

    Returns:
        A line for each file that could not be made, and the keywords of attributes that were left empty.

    Raises:
        CaseError: the folder cannot be written to.
    """
    emidec.write_case(root, case)
    emidec.write_labels(root, result.labels, case)
    emidec.write_maps(root, result.maps, case)
    return _write_derived_files(root / case.name, series, case, result.labels, result.confidence)


def refuse_existing_case(output: Path, name: str) -> None:
    """Raises CaseError where a case cannot be written without replacing something; for before any work."""
    folder = output / name
    if Path(name).name != name or name in ("", "..") or not name.isprintable():
        raise CaseError(output, "a case's name is a folder's in there, without a slash or characters that do not print")
    try:
        os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise CaseError(folder, f"cannot be written: {error.strerror}") from None
    else:
        raise CaseError(folder, "is there already; another patient's results would replace it: choose another name")
    refuse_to_replace(output, TABLES)


def _write_derived_files(
    folder: Path, series: dicom_stack.Series, case: Case, labels: np.ndarray, confidence: Confidence
) -> tuple[list[str], list[str]]:
    """Writes picture, segmentation and report, each unless something prevents it.

    Returns:
        A line for each that is left out, and the keywords of attributes that were left empty in the others.
    """
    left_out: list[str] = []
    made: dict = {}

    def write(what: str, ending: str, make: Callable, save: Callable) -> None:
        path = folder / f"{case.name}{ending}"
        try:
            made[what] = make()
            save(path, made[what])
        except Exception as error:  # highdicom and pydicom raise many kinds, whose words may hold a patient's
            made.pop(what, None)
            path.unlink(missing_ok=True)
            left_out.append(f"{folder.name}: labels are written, the {what} is left out: {_reason(error)}")

    def draw(path: Path, _) -> None:
        draw_case(
            path,
            case.image,
            {"prediction": labels},
            spacing=case.spacing,
            title=case.name,
            insertions=insertions_in(case, labels, EMIDEC),
        )

    def report():
        measured = measure_case(case, labels)
        figures = measured.case | _stated(confidence)
        segmented = made.get("DICOM segmentation")
        segments, look = measured.segments, in_one_line(confidence.warnings) or None
        return structured_report(series, segmented, labels, case.spacing, figures, segments, look)

    if not missing("report"):
        write("picture", ".png", lambda: None, draw)
    write("DICOM segmentation", ".seg.dcm", lambda: segmentation(series, labels, LABEL_COLOURS), dicom.write_dataset)
    write("DICOM report", ".sr.dcm", report, dicom.write_dataset)
    emptied = source_images(series)[1] if made.keys() - {"picture"} else []
    return left_out, emptied


def _stated(confidence: Confidence) -> dict[str, float]:
    """What the cascade says of itself, as a structured report has it; NaN for what it does not say."""
    low, high = Account(confidence).interval_of("infarct_g") or (np.nan, np.nan)
    return {
        "myocardium_dice": confidence.expected_dice["myocardium"],
        "infarct_dice": confidence.expected_dice["infarction"],
        "infarct_low_g": low,
        "infarct_high_g": high,
        "infarct_probability": confidence.probability.get("infarction", np.nan),
    }


def _reason(error: Exception) -> str:
    """Why an object cannot be made, without a word of the patient's: a file's fault, or the attribute."""
    if isinstance(error, CaseError):
        return error.fault
    if isinstance(error, AttributeFault):
        return str(error)
    named = [word for word in re.findall(r"[A-Z]\w+", str(error)) if tag_for_keyword(word) is not None]
    attributes = ", ".join(dict.fromkeys(named))
    return f"{attributes or 'an attribute'} of the series is against the standard ({type(error).__name__})"
