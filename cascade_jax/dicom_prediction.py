"""From a DICOM series to labels as NIfTI, as a DICOM segmentation, and in numbers as a structured report."""

import tempfile
from pathlib import Path

from cascade_jax.confidence import DOUBTFUL
from cascade_jax.data import dicom, emidec
from cascade_jax.data.case import CaseError
from cascade_jax.data.dicom_report import structured_report
from cascade_jax.data.dicom_segmentation import segmentation
from cascade_jax.data.files import make_writable_folder
from cascade_jax.data.labels import EMIDEC
from cascade_jax.expected_dice import read_expected_dice, write_expected_dice
from cascade_jax.figures import LABEL_COLOURS, draw_case, write_colour_tables
from cascade_jax.inference import Cascade
from cascade_jax.prediction import write_maps
from cascade_jax.quantify import quantify


def predict_series(cascade: Cascade, source: Path, output: Path, name: str, number: int | None) -> list[str]:
    """Segments one series.

    Args:
        cascade: the trained cascade.
        source: a folder or a zip archive of DICOM files.
        output: image, labels and doubt go to `output/<name>/Images`, `Contours` and `Doubt` (and `Disagreement`, if
            several folds vote), beside `<name>.png`, the segmentation `<name>.seg.dcm` and the structured report
            `<name>.sr.dcm`; to `output` the labels' names and colours, and `expected_dice.csv` with a row for each of
            its cases, the most doubtful first. The case's folder appears only when complete.
        name: the case's; one that the output does not have yet.
        number: the series' number, or None.

    Returns:
        Lines for the user: which series were passed over and why, and what was found in the one that was not.

    Raises:
        CaseError: there is no such series, or it cannot be used; the case exists already.
    """
    folder = output / name
    if Path(name).name != name or name in ("", ".."):
        raise CaseError(output, "a case's name is a folder's in there, without a slash")
    if folder.exists():
        raise CaseError(folder, "is there already; another patient's results would replace it: choose another name")
    if cascade.plan.labels != EMIDEC:
        raise CaseError(source, "the model has labels without DICOM codes; launch.predict writes them as NIfTI")
    others = read_expected_dice(output, EMIDEC)
    series, lines = dicom.choose_series(source, number)
    case = dicom.read_series(source, series, name)
    make_writable_folder(output)
    result = cascade.segment_case(case, details=True)
    labels, expected = result.labels, result.expected_dice
    measured = quantify(emidec.to_file_axes(labels), case.spacing[::-1]).case
    try:
        segmented = segmentation(series, labels, LABEL_COLOURS)
        report = structured_report(series, segmented, labels, case.spacing, measured)
    except Exception as error:  # highdicom raises many kinds, whose words may hold a patient's
        raise CaseError(source, f"{series.name} has attributes against the standard ({type(error).__name__})") from None
    with tempfile.TemporaryDirectory(prefix=".", dir=output) as partial:
        emidec.write_case(Path(partial), case)
        emidec.write_labels(Path(partial), labels, case)
        write_maps(Path(partial), result, case)
        written = Path(partial) / name
        draw_case(written / f"{name}.png", case.image, {"prediction": labels}, spacing=case.spacing, title=name)
        dicom.write_dataset(written / f"{name}.seg.dcm", segmented)
        dicom.write_dataset(written / f"{name}.sr.dcm", report)
        written.rename(folder)
    write_colour_tables(output)
    write_expected_dice(output, others | {name: expected}, EMIDEC)
    doubt = ", doubtful, look at it" if expected[EMIDEC.main] < DOUBTFUL else ""
    return [
        *lines,
        f"{folder}: {series.name}, {len(series.slices)} slices, "
        f"expected Dice of the myocardium {expected[EMIDEC.main]:.2f}{doubt}",
    ]
