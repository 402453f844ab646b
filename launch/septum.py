"""Trains the small network that finds the septum, on simulated hearts alone.

python -m launch.septum --output=cascade_jax/quantify/septum.npz
"""

from pathlib import Path

from absl import flags

from cascade_jax.data.case import CaseError
from cascade_jax.data.files import make_writable_folder
from cascade_jax.progress import bar
from launch import command

_OUTPUT = flags.DEFINE_string("output", None, "The file of weights to write.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the hearts and of the training.", lower_bound=0)
_HEARTS = flags.DEFINE_integer("hearts", 12288, "How many random slices to learn from.", lower_bound=64)
_STEPS = flags.DEFINE_integer("steps", 3000, "Of the training.", lower_bound=1)


def main() -> None:
    output = Path(_OUTPUT.value)
    if output.exists():
        raise CaseError(output, "is already there")
    make_writable_folder(output.parent)
    command.configure_jax()
    from cascade_jax.training.septum import write_network

    write_network(output, seed=_SEED.value, hearts=_HEARTS.value, steps=_STEPS.value, progress=bar)
    print(f"{output}: {output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    command.run(main, required=("output",))
