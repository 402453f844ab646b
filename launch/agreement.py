"""Compares readers' outlines of the same hearts; the program may be one of the readers.

    cascade-jax agreement --readers=DIR1,DIR2[,DIR3...] [--names=A,B,...] [--images=DIR] [--output=OUT]

Each folder has one reader's labels, in the challenge's layout or a file for each case; one may be what `cascade-jax
predict` wrote. Tables say for each pair, and for all together, how alike the outlines are (Dice, Hausdorff and mean
surface distance), how the sizes agree (bias and limits of agreement, intraclass correlation), and whether the readers
say the same of infarct and no-reflow, by heart and by AHA segment (kappa). OUT/agreement.json has every case too,
OUT/agreement.csv a row for each measure. Only cases that every reader has are compared; lines name the others. With the
images the right ventricle is looked for, from which AHA segments are counted, and agreement is also given for each of
them; --insertions is a table as for `cascade-jax quantify`.
"""

import sys
from pathlib import Path

from absl import flags

from cascade_jax.progress import bar
from launch import command

_READERS = flags.DEFINE_list("readers", None, "The readers' folders of labels, two or more, with commas between them.")
_NAMES = flags.DEFINE_list(
    "names", None, "What the readers are called, in the same order; without it, like the folders."
)
_IMAGES = flags.DEFINE_string("images", None, "The images of the same cases: a file, a folder of them, or a cohort.")
_INSERTIONS = flags.DEFINE_string(
    "insertions",
    None,
    "A CSV file with the columns case, insertion_degrees and, where they are known, base_first and mirrored.",
)
_OUTPUT = flags.DEFINE_string("output", None, "The folder for agreement.json and agreement.csv.")


def main() -> int:
    from cascade_jax.commands.agreement import OUTPUTS, as_text, compare_folders, name_readers, write_agreement
    from cascade_jax.data import folders
    from cascade_jax.data.outputs import refuse_to_replace
    from cascade_jax.quantify.orientations import read_orientations

    readers = name_readers(_READERS.value, _NAMES.value)
    images = Path(_IMAGES.value) if _IMAGES.value else None
    output = Path(_OUTPUT.value) if _OUTPUT.value else None
    if output:
        refuse_to_replace(output, OUTPUTS)
    for folder in readers.values():
        command.print_skipped(folders.list_skipped(folder, folders.find_contours))
    if images:
        command.print_skipped(folders.list_skipped(images, folders.find_inputs))
    orientations = read_orientations(Path(_INSERTIONS.value)) if _INSERTIONS.value else {}
    result = compare_folders(readers, images, bar, orientations)
    try:
        print(as_text(result), flush=True)
    finally:  # whoever reads the tables may have read enough
        if output:
            write_agreement(output, result)
    for name, reason in result["left_out"].items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    for name, reason in result["failed"].items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    command.run(main, required=("readers",))
