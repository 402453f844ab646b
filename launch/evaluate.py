"""Compares two folders of labels in the challenge's layout, by the challenge's metrics.

With their means come 95 % intervals, and of the challenge's labels infarct size, detection and infarcted hearts alone.

cascade-jax evaluate --prediction=DIR --truth=DIR [--labels_of=WORKDIR] [--output=metrics.json]
"""

import json
import sys
from pathlib import Path

from absl import flags

from cascade_jax.bundle import load_labels
from cascade_jax.data.files import write_text
from cascade_jax.data.labels import EMIDEC
from cascade_jax.data.outputs import recording_outputs, refuse_to_replace
from cascade_jax.progress import bar
from launch import command

_PREDICTION = flags.DEFINE_string("prediction", None, "The folder of predicted labels.")
_TRUTH = flags.DEFINE_string("truth", None, "The folder of true labels.")
_LABELS_OF = flags.DEFINE_string(
    "labels_of", None, "The working folder of the training that has these labels; without it, the challenge's."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "A JSON file for every case's metrics, their means, intervals and agreement, and what failed."
)


def main() -> int:
    from cascade_jax.commands.evaluate import as_text, evaluate_folders
    from cascade_jax.data import folders
    from cascade_jax.report.tables import without_nan

    table = load_labels(_LABELS_OF.value) if _LABELS_OF.value else EMIDEC
    output = Path(_OUTPUT.value) if _OUTPUT.value else None
    if output:
        refuse_to_replace(output.parent, [output.name])
    for folder in (_PREDICTION.value, _TRUTH.value):
        command.print_skipped(folders.list_skipped(folder, folders.find_contours))
    result = evaluate_folders(Path(_PREDICTION.value), Path(_TRUTH.value), bar, table)
    try:
        print(as_text(result), flush=True)
    finally:  # whoever reads the table may have read enough
        if output:
            with recording_outputs(output.parent, [output.name]):
                write_text(output, json.dumps(without_nan(result), indent=1, allow_nan=False))
    for name, reason in result["failed"].items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    command.run(main, required=("prediction", "truth"))
