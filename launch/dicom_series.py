"""What a command does with a DICOM series."""

import logging
import sys
import warnings
from pathlib import Path

from cascade_jax.data.case import CaseError
from cascade_jax.extras import missing
from launch import command


def keep_libraries_quiet() -> None:
    """What they say of an attribute that is against the standard quotes it, and it may be a patient's."""
    warnings.simplefilter("ignore")
    for name in ("pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def segment_series(load, source: Path, output: Path, case: str, series: int | None, *, strict: bool = False) -> int:
    """Segments a series, says what was done, and returns the exit status.

    Args:
        load: gives the cascade.
        source, output, case, series, strict: as for `commands.dicom.predict_series`.

    Raises:
        CaseError: as there, or the libraries for DICOM are not installed.
    """
    if install := missing("dicom"):
        raise CaseError(source, f"DICOM needs {install}")
    from cascade_jax.commands.dicom import predict_series, refuse_existing_case

    keep_libraries_quiet()
    refuse_existing_case(output, case)  # loading takes a while
    command.print_left_out("report", "pictures")
    lines, left_out = predict_series(load(), source, output, case, series, strict=strict)
    for line in lines:
        print(line)
    for line in left_out:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if left_out else 0
