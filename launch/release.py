"""Packs a trained cascade into two files to ship: its model and its weights as float16, without pickle.

    cascade-jax release --workdir=DIR --output=DIR

Every command and `cascade_jax.load` take the output in the place of a working folder.
"""

from pathlib import Path

from absl import flags

from launch import command

_WORKDIR = flags.DEFINE_string("workdir", None, "The working folder of a finished training.")
_OUTPUT = flags.DEFINE_string("output", None, "The folder for model.json and weights.npz.")


def main() -> None:
    from cascade_jax.commands.release import release

    path = release(_WORKDIR.value, Path(_OUTPUT.value))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    command.run(main, required=("workdir", "output"))
