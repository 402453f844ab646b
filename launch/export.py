"""Writes a trained cascade, all folds and weights, as one StableHLO file that runs with JAX alone.

    python -m launch.export [--workdir=DIR] --output=cascade.stablehlo [--shape=10,256,224]

`jax.export.deserialize(bytearray(content)).call(image, valid)` then maps a preprocessed image, float32 (depth, height,
width), and its field of view, bool of the same shape, to uint8 labels and float32 probabilities.
"""

from pathlib import Path

from absl import flags

import cascade_jax
from cascade_jax.data.files import replacing
from cascade_jax.export import PLATFORMS, export_cascade
from cascade_jax.inference import PRETRAINED
from launch import command

_WORKDIR = flags.DEFINE_string(
    "workdir", PRETRAINED, "The working folder of a finished training; without it, the cascade in the box."
)
_OUTPUT = flags.DEFINE_string("output", None, "The file to write.")
_SHAPE = flags.DEFINE_list("shape", None, "Depth, height and width of the images; default: as in training.")
flags.register_validator(
    "shape",
    lambda sizes: sizes is None or (len(sizes) == 3 and all(size.isdigit() and int(size) for size in sizes)),
    "three positive whole numbers are needed",
)
_PLATFORMS = flags.DEFINE_multi_enum("platforms", PLATFORMS, PLATFORMS, "On which it is to run; may be repeated.")


def main() -> None:
    shape = None if _SHAPE.value is None else [int(size) for size in _SHAPE.value]
    content = export_cascade(cascade_jax.load(_WORKDIR.value), shape, _PLATFORMS.value)
    with replacing(Path(_OUTPUT.value)) as partial:
        partial.write_bytes(content)
    print(f"{_OUTPUT.value}: {len(content) / 1e6:.1f} MB")


if __name__ == "__main__":
    command.run(main, required=("output",))
