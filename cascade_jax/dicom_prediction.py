"""From a DICOM series to labels as NIfTI, as a DICOM segmentation, and in numbers as a structured report."""

import csv
import tempfile
from pathlib import Path

from cascade_jax.confidence import DOUBTFUL, disagreement
from cascade_jax.data import dicom, emidec
from cascade_jax.data.case import CaseError
from cascade_jax.data.dicom_report import structured_report
from cascade_jax.data.dicom_segmentation import segmentation
from cascade_jax.data.files import make_writable_folder, write_text
from cascade_jax.data.labels import EMIDEC
from cascade_jax.figures import LABEL_COLOURS, colour_tables, draw_case
from cascade_jax.inference import Cascade
from cascade_jax.prediction import write_expected_dice
from cascade_jax.quantify import quantify


def predict_series(cascade: Cascade, source: Path, output: Path, name: str, number: int | None) -> list[str]:
    """Segments one series.

    Args:
        cascade: the trained cascade.
        source: a folder or a zip archive of DICOM files.
        output: image, labels and doubt go to `output/<name>/Images`, `Contours` and `Disagreement`, beside
            `<name>.png`, the segmentation `<name>.seg.dcm` and the structured report `<name>.sr.dcm`; to `output` the
            labels' names and colours, and `expected_dice.csv` with a row for each of its cases, the most doubtful
            first. The case's folder appears only when complete.
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
    if cascade.plan.labels.names != EMIDEC.names:
        raise CaseError(source, "the model has labels without DICOM codes; launch.predict writes them as NIfTI")
    others = _read_expected_dice(output / "expected_dice.csv")
    series, lines = dicom.choose_series(source, number)
    case = dicom.read_series(source, series, name)
    make_writable_folder(output)
    labels, probabilities, expected = cascade.segment_case(case, probabilities=True)
    measured = quantify(emidec.to_file_axes(labels), case.spacing[::-1]).case
    try:
        segmented = segmentation(series, labels, LABEL_COLOURS)
        report = structured_report(series, segmented, labels, case.spacing, measured)
    except Exception as error:  # highdicom raises many kinds, whose words may hold a patient's
        raise CaseError(source, f"{series.name} has attributes against the standard ({type(error).__name__})") from None
    with tempfile.TemporaryDirectory(prefix=".", dir=output) as partial:
        emidec.write_case(Path(partial), case)
        emidec.write_labels(Path(partial), labels, case)
        emidec.write_disagreement(Path(partial), disagreement(probabilities), case)
        written = Path(partial) / name
        draw_case(written / f"{name}.png", case.image, {"prediction": labels}, spacing=case.spacing, title=name)
        dicom.write_dataset(written / f"{name}.seg.dcm", segmented)
        dicom.write_dataset(written / f"{name}.sr.dcm", report)
        written.rename(folder)
    for file_name, text in colour_tables().items():
        write_text(output / file_name, text)
    write_expected_dice(output, others | {name: expected}, EMIDEC)
    doubt = ", doubtful, look at it" if expected[EMIDEC.main] < DOUBTFUL else ""
    return [
        *lines,
        f"{folder}: {series.name}, {len(series.slices)} slices, "
        f"expected Dice of the myocardium {expected[EMIDEC.main]:.2f}{doubt}",
    ]


def _read_expected_dice(path: Path) -> dict[str, dict[str, float]]:
    """The rows that a table of expected Dice has already: {case: {target: expected Dice}}.

    Raises:
        CaseError: the file is no such table.
    """
    if not path.exists():
        return {}
    try:
        with path.open(newline="") as file:
            return {
                row["case"]: {target: float(row[target] or "nan") for target in EMIDEC.targets}
                for row in csv.DictReader(file)
            }
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        raise CaseError(path, "is no table of expected Dice of these labels") from None
