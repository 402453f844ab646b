"""Segments a short-axis DICOM series.

    cascade-jax dicom --input=FOLDER_OR_ZIP --output=DIR [--case=NAME] [--series=NUMBER] [--weights=NAME_OR_FOLDER]

The files may lie in any order, at any depth, several series together. The output has the image and the labels as NIfTI
in the patient's coordinates, a picture, `<case>.seg.dcm`, a DICOM segmentation that refers to the series, and
`<case>.sr.dcm`, a structured report of volumes, infarct share and transmurality; lines name the files and series
that were skipped, and why. Where a picture, segmentation or report cannot be made, the labels are written all the same,
a line gives the reason, and the exit status is 1. Needs `pip install 'cascade_jax[dicom]'`.
"""

from pathlib import Path

from absl import flags

from launch import command, dicom_series, weights

weights.define_flags()
_INPUT = flags.DEFINE_string("input", None, "A folder or a zip archive of DICOM files, or one file of many frames.")
_OUTPUT = flags.DEFINE_string("output", None, "The folder for the results.")
_SERIES = flags.DEFINE_integer(
    "series",
    None,
    "The series' number; without it, of the oblique stacks the one called late enhancement, of "
    "several the one with most slices.",
)
_CASE = flags.DEFINE_string(
    "case",
    "case",
    "What the results are called, a name that the output has not yet; nothing is taken from the patient.",
)
_STRICT = command.define_strict()


def main() -> int:
    command.configure_jax()
    return dicom_series.segment_series(
        weights.load,
        Path(_INPUT.value),
        Path(_OUTPUT.value),
        _CASE.value,
        _SERIES.value,
        strict=_STRICT.value,
    )


if __name__ == "__main__":
    command.run(main, required=("input", "output"), private=True)
