"""From files to files: every case of a folder through a trained cascade."""

from pathlib import Path

from cascade_jax.data import emidec
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import make_writable_folder
from cascade_jax.figures import draw_case
from cascade_jax.inference import Cascade
from cascade_jax.preparation import Progress


def predict_cases(cascade: Cascade, source: Path, output: Path, figures: bool, progress: Progress) -> dict[str, str]:
    """Segments every case of `source` and writes its labels; a bad case does not keep the others from it.

    Args:
        cascade: the trained cascade.
        source: a NIfTI file, a folder of them, or a cohort in the challenge's layout.
        output: labels go to `output/<case>/Contours/<case>.nii.gz`.
        figures: also draw `output/<case>/<case>.png`, beside the truth where there is one.
        progress: wraps the loop with a bar.

    Returns:
        {case: reason} of the cases that failed.

    Raises:
        CaseError: the source holds no case at all.
    """
    failed: dict[str, str] = {}
    files = emidec.find_inputs(source, faults=failed)
    make_writable_folder(output)
    for file in progress(files, f"segmenting {len(files)} case{'s' if len(files) > 1 else ''} of {source}"):
        try:
            case = emidec.read_case(file)
            labels = cascade.segment_case(case)
            emidec.write_labels(output, labels, case)
            if figures:
                truth = {} if case.labels is None else {"truth": case.labels}
                draw_case(
                    output / case.name / f"{case.name}.png",
                    case.image,
                    {**truth, "prediction": labels},
                    spacing=case.spacing,
                    title=case.name,
                )
        except CaseError as error:
            failed[file.name] = str(error)
    return failed
