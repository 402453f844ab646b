"""Packs a trained cascade into files to ship: its model, its weights as float16, without pickle, and their licence.

    cascade-jax release --weights=FOLDER --output=DIR [--licence="CC BY-NC-SA 4.0: trained on ..."]

Every command and `cascade_jax.load` take the output in the place of a working folder. The licence follows the weights:
commands that use them say it, what is trained from them keeps it, and a file LICENCE beside them tells it to people.
"""

from pathlib import Path

from absl import flags

from launch import command, weights

weights.define_flags(required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The folder for model.json, weights.npz and, if they have one, LICENCE.")
_LICENCE = flags.DEFINE_string(
    "licence",
    "",
    "The licence that the weights are under, in one line, beside that of what they were trained from, if that had one; "
    "default: the package's own.",
)


def main() -> None:
    from cascade_jax.bundle import read_model
    from cascade_jax.commands.release import release

    output = Path(_OUTPUT.value)
    path = release(weights.chosen(), output, _LICENCE.value)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    weights.print_licence(output, read_model(output)["licence"])


if __name__ == "__main__":
    command.run(main, required=("output",))
