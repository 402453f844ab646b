"""Segments a short-axis DICOM series.

    python -m launch.dicom --input=FOLDER_OR_ZIP --output=DIR [--case=NAME] [--series=NUMBER] [--workdir=DIR]

The files may lie in any order, at any depth, several series together. The output has the image and the labels as NIfTI
in the patient's coordinates, a picture, `<case>.seg.dcm`, a DICOM segmentation that refers to the series, and
`<case>.sr.dcm`, a structured report of volumes, infarct share and transmurality; a line tells of every series that was
passed over, and why. Wants `pip install '.[dicom]'`.
"""

import logging
import warnings
from pathlib import Path

from absl import flags

import cascade_jax
from cascade_jax.data.case import CaseError
from cascade_jax.model_file import PRETRAINED
from launch import command

_WORKDIR = flags.DEFINE_string(
    "workdir", PRETRAINED, "The working folder of a finished training; without it, the cascade in the box."
)
_INPUT = flags.DEFINE_string("input", None, "A folder or a zip archive of DICOM files.")
_OUTPUT = flags.DEFINE_string("output", None, "The folder for the results.")
_SERIES = flags.DEFINE_integer("series", None, "The series' number; without it, the oblique one with most slices.")
_CASE = flags.DEFINE_string(
    "case",
    "case",
    "What the results are called, a name that the output has not yet; nothing is taken from the patient.",
)


def main() -> None:
    try:
        from cascade_jax.dicom_prediction import predict_series
    except ImportError as error:
        raise CaseError(_INPUT.value, f"DICOM needs pip install 'cascade_jax[dicom]': {error}") from None
    # What these say of an attribute that is against the standard quotes it, and it may be a patient's.
    warnings.simplefilter("ignore")
    for name in ("pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    command.keep_compiled()
    cascade = cascade_jax.load(_WORKDIR.value)
    for line in predict_series(cascade, Path(_INPUT.value), Path(_OUTPUT.value), _CASE.value, _SERIES.value):
        print(line)


if __name__ == "__main__":
    command.run(main, required=("input", "output"))
