"""From a DICOM series to labels as NIfTI, as a DICOM segmentation, and in numbers as a structured report."""

from pathlib import Path

from cascade_jax.confidence import DOUBTFUL, disagreement
from cascade_jax.data import dicom, emidec
from cascade_jax.data.case import CaseError
from cascade_jax.data.dicom_report import structured_report
from cascade_jax.data.dicom_segmentation import segmentation
from cascade_jax.data.files import make_writable_folder, write_text
from cascade_jax.data.labels import EMIDEC
from cascade_jax.figures import colour_tables, draw_case
from cascade_jax.inference import Cascade
from cascade_jax.quantify import volumes


def predict_series(cascade: Cascade, source: Path, output: Path, name: str, number: int | None) -> str:
    """Segments one series.

    Args:
        cascade: the trained cascade.
        source: a folder or a zip archive of DICOM files.
        output: image, labels and doubt go to `output/<name>/Images`, `Contours` and `Disagreement`, beside
            `<name>.png`, the segmentation `<name>.seg.dcm` and the structured report `<name>.sr.dcm`; the labels' names
            and colours to `output`.
        name: the case's.
        number: the series' number, or None.

    Returns:
        A line for the user.

    Raises:
        CaseError: there is no such series, or it cannot be used.
    """
    if cascade.plan.labels.names != EMIDEC.names:
        raise CaseError(source, "the model has labels without DICOM codes; launch.predict writes them as NIfTI")
    series = dicom.choose_series(source, number)
    case = dicom.read_series(source, series, name)
    make_writable_folder(output)
    labels, probabilities, expected = cascade.segment_case(case, probabilities=True)
    measured = volumes(emidec.to_file_axes(labels), case.spacing[::-1])
    try:
        segmented = segmentation(series, labels)
        report = structured_report(series, segmented, labels, case.spacing, measured)
    except Exception as error:  # highdicom raises many kinds, whose words may hold a patient's
        kind = type(error).__name__
        raise CaseError(source, f"{series.description} has attributes against the standard ({kind})") from None
    emidec.write_case(output, case)
    emidec.write_labels(output, labels, case)
    emidec.write_disagreement(output, disagreement(probabilities), case)
    for file_name, text in colour_tables().items():
        write_text(output / file_name, text)
    folder = output / name
    draw_case(folder / f"{name}.png", case.image, {"prediction": labels}, spacing=case.spacing, title=name)
    dicom.write_dataset(folder / f"{name}.seg.dcm", segmented)
    dicom.write_dataset(folder / f"{name}.sr.dcm", report)
    doubt = ", doubtful, look at it" if expected["myocardium"] < DOUBTFUL else ""
    return (
        f"{folder}: {series.description}, {len(series.slices)} slices, "
        f"expected Dice of the myocardium {expected['myocardium']:.2f}{doubt}"
    )
