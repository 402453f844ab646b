"""Segments images: with weights in the box, or with those that `cascade-jax train` has trained.

    cascade-jax predict [--weights=NAME_OR_FOLDER] --input=FILE_OR_COHORT --output=OUT

The input is an image file (NIfTI, NRRD, MetaImage or .hdr/.img), a folder of them, or a cohort in the challenge's
layout. Labels go to OUT/<case>/Contours/<case>.nii.gz, in the input's own grid, and, with
`pip install 'cascade_jax[report]'`, a picture beside them; OUT/confidence.csv says how far to believe each result, the
most doubtful first. A folder or a zip archive of a DICOM series is segmented as by `cascade-jax dicom`.
"""

import functools
import sys
import zipfile
from pathlib import Path

from absl import flags

from cascade_jax.errors import CaseError
from cascade_jax.progress import bar
from launch import command, dicom_series, weights

weights.define_flags()
_INPUT = flags.DEFINE_string(
    "input", None, "An image file, a folder of them, a cohort in the challenge's layout, or a DICOM series."
)
_OUTPUT = flags.DEFINE_string("output", None, "The folder for the labels.")
_MIRROR = flags.DEFINE_bool(
    "mirror", None, "Average over in-plane mirror images; default: as the training's config said."
)
_FIGURES = flags.DEFINE_bool("figures", True, "Draw each case, and write where the networks doubt.")
_IMAGES = flags.DEFINE_bool(
    "images",
    False,
    "Write the images beside the labels, and give both an affine of the voxels' true size where a file's own says "
    "another, as the challenge's do: for programs that measure by the affine, such as 3D Slicer and MONAI.",
)
_CASE = flags.DEFINE_string("case", "case", "What the results of a DICOM series are called.")
_SERIES = flags.DEFINE_integer(
    "series",
    None,
    "A DICOM series' number; without it, of the oblique stacks the one called late enhancement, of "
    "several the one with most slices.",
)
_SPLIT_VOLUMES = flags.DEFINE_bool(
    "split_volumes",
    False,
    "Give each device a part of a volume's height in the place of whole cases or folds: for volumes too large for one.",
)
_STRICT = command.define_strict()


def main() -> int:
    from cascade_jax.case_warnings import codes, in_one_line
    from cascade_jax.commands.predict import predict_cases
    from cascade_jax.data import folders
    from cascade_jax.data.dicom_files import holds_dicom_and_other_images

    command.configure_jax()

    source, output = Path(_INPUT.value), Path(_OUTPUT.value)
    load = functools.partial(weights.load, mirror=_MIRROR.value, split_volumes=_SPLIT_VOLUMES.value)
    has_dicom, has_others = holds_dicom_and_other_images(source)
    if has_dicom and has_others:
        raise CaseError(source, "holds DICOM images beside image files of another format: which are meant?")
    if has_dicom:
        return dicom_series.segment_series(load, source, output, _CASE.value, _SERIES.value, strict=_STRICT.value)
    if source.is_file() and zipfile.is_zipfile(source):
        raise CaseError(source, "is an archive without DICOM images: unpack it")
    cascade = load()
    if _FIGURES.value:
        command.print_left_out("report", "pictures")
    command.print_skipped(folders.list_skipped(source, folders.find_inputs))
    warned, failed = predict_cases(cascade, source, output, _FIGURES.value, bar, images=_IMAGES.value)
    for name, warnings in warned.items():
        print(f"look at it: {name}: {in_one_line(warnings)}")
    if _STRICT.value:
        failed |= {name: f"{name}: {codes(warnings)} (--strict)" for name, warnings in warned.items()}
    for reason in failed.values():
        print(f"failed: {reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    command.run(main, required=("input", "output"), private=True)
