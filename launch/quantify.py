"""Measures segmented hearts: volumes, infarct size, transmurality, AHA segments, threshold methods.

    cascade-jax quantify --labels=DIR [--images=DIR] --output=OUT [--insertions=FILE.csv] [--labels_of=WORKDIR]

Labels are those of `cascade-jax predict`, or a reader's, in the challenge's layout; where a reader has corrected a case
(`cascade-jax review`), the corrected ones are measured. OUT/cases.csv has a row for each case, slices.csv and
segments.csv one for each slice and AHA segment; the columns' names carry their units. With the images come the
threshold methods (2 to 6 standard deviations, full width at half maximum) with the remote myocardium that they start
from, and the right ventricle's insertions are looked for in them. Segments whose `segments_from` is "x axis" are
counted from there because no insertion was found, and are not where their names say. Where a reader knows it better,
FILE.csv has a row for each case: the columns `case` and `insertion_degrees`, and if need be `base_first` and `mirrored`
with yes or no; an empty field is unknown. What a heart does not have, or a method cannot tell, is an empty field, for
the threshold methods with the reason beside it.
"""

import sys
from pathlib import Path

from absl import flags

from cascade_jax.bundle import load_labels
from cascade_jax.progress import bar
from launch import command

_LABELS = flags.DEFINE_string("labels", None, "The folder of labels.")
_IMAGES = flags.DEFINE_string("images", None, "The images of the same cases: a file, a folder of them, or a cohort.")
_LABELS_OF = flags.DEFINE_string(
    "labels_of",
    None,
    "The working folder of the training that has these labels; any other than the challenge's are refused.",
)
_OUTPUT = flags.DEFINE_string("output", None, "The folder for the tables.")
_INSERTION = flags.DEFINE_float(
    "insertion",
    None,
    "Angle of the right ventricle's anterior insertion, degrees counter-clockwise from the right of a slice as it is "
    "looked at, for all cases that --insertions does not give.",
)
_INSERTIONS = flags.DEFINE_string(
    "insertions",
    None,
    "A CSV file with the columns case, insertion_degrees (as for --insertion) and, where they are known, base_first "
    "and mirrored (yes or no).",
)
_CORRECTED = command.define_corrected()


def main() -> int:
    from cascade_jax.commands.quantify import check_table, quantify_folder
    from cascade_jax.data import folders
    from cascade_jax.quantify.orientations import read_orientations

    if _LABELS_OF.value:
        check_table(load_labels(_LABELS_OF.value), _LABELS_OF.value)
    images = Path(_IMAGES.value) if _IMAGES.value else None
    command.print_skipped(folders.list_skipped(_LABELS.value, folders.find_contours))
    if images:
        command.print_skipped(folders.list_skipped(images, folders.find_inputs))
    orientations = read_orientations(Path(_INSERTIONS.value)) if _INSERTIONS.value else {}
    if _CORRECTED.value:
        command.print_corrected(Path(_LABELS.value))
    failed = quantify_folder(
        Path(_LABELS.value),
        images,
        Path(_OUTPUT.value),
        _INSERTION.value,
        bar,
        orientations=orientations,
        corrected=_CORRECTED.value,
    )
    for reason in failed.values():
        print(f"failed: {reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    command.run(main, required=("labels", "output"))
