"""Outlines a scan and says how large the infarct is.

    cascade-jax segment scan.nii.gz [more scans] [-o OUT] [--all] [--weights=NAME_OR_FOLDER]

A scan is an image file (NIfTI, NRRD, MetaImage or .hdr/.img), a folder or a zip archive of a DICOM study, or a folder
of any of these. The labels go beside the scan, to scan_seg.nii.gz, or to OUT, a file that ends in .nii.gz for one scan
and a folder for several. A line for each says the masses, how sure they are, what to look at, and where the labels are.
With --all come what `cascade-jax predict` writes, in the folder scan_seg: the picture, and where the networks doubt.
"""

import sys
from pathlib import Path

from absl import flags

from cascade_jax.progress import bar, say
from launch import command, dicom_series, weights

weights.define_flags()
_OUTPUT = flags.DEFINE_string(
    "output", None, "The file for the labels of one scan, or the folder for those of several.", short_name="o"
)
_ALL = flags.DEFINE_bool("all", False, "Write all that `cascade-jax predict` does.")
_STRICT = command.define_strict()


def main(inputs: list[str]) -> int:
    from cascade_jax.commands.segment import plan, segment_scans

    command.configure_jax()
    dicom_series.keep_libraries_quiet()
    jobs, skipped, failed = plan(inputs, Path(_OUTPUT.value) if _OUTPUT.value else None, _ALL.value)
    command.print_skipped(skipped)
    for line in failed:  # before the work, which takes a while
        print(f"failed: {line}", file=sys.stderr)
    if jobs:
        if _ALL.value:
            command.print_left_out("report", "pictures")
        cascade = weights.load()
        for line, reasons in segment_scans(cascade, jobs, _ALL.value, bar, strict=_STRICT.value):
            if line:
                say(line)
            for reason in reasons:
                failed.append(reason)
                print(f"failed: {reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    command.run(main, required=(), private=True, inputs="a scan: an image file, or a folder or archive of DICOM files")
