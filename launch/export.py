"""Writes a trained cascade, all folds and weights, as one StableHLO file that runs with JAX and flatbuffers alone.

    cascade-jax export [--weights=NAME_OR_FOLDER] --output=cascade.stablehlo [--shape=10,256,224]

Beside it, cascade.json says what the program cannot: the spacing, shape and normalisation of its input, the labels'
names, the rules that clean its labels up, and the weights' licence. In another process (pip install jax flatbuffers;
flatbuffers is what `deserialize` reads with):

    description = json.load(open("cascade.json"))
    program = jax.export.deserialize(bytearray(open("cascade.stablehlo", "rb").read()))
    image = ...  # float32 (depth, height, width), as description["preprocessing"] says
    valid = ...  # bool of the same shape, the field of view
    labels, probabilities = program.call(image, valid)
"""

import json
from pathlib import Path

from absl import flags

from cascade_jax.bundle import PLATFORMS
from cascade_jax.data.files import replacing, write_text
from cascade_jax.data.outputs import recording_outputs, refuse_to_replace
from launch import command, weights

weights.define_flags()
_OUTPUT = flags.DEFINE_string("output", None, "The file to write; its description is beside it as .json.")
flags.register_validator(
    "output",
    lambda path: path is None or (Path(path).name and Path(path).suffix != ".json"),
    "a file that does not end in .json is needed, which is its description's name",
)
_SHAPE = flags.DEFINE_list("shape", None, "Depth, height and width of the images; default: as in training.")
flags.register_validator(
    "shape",
    lambda sizes: sizes is None or (len(sizes) == 3 and all(size.isdigit() and int(size) for size in sizes)),
    "three positive whole numbers are needed",
)
_PLATFORMS = flags.DEFINE_multi_enum("platforms", PLATFORMS, PLATFORMS, "On which it is to run; may be repeated.")


def main() -> None:
    from cascade_jax.commands.export import describe_export, export_cascade

    shape = None if _SHAPE.value is None else [int(size) for size in _SHAPE.value]
    path = Path(_OUTPUT.value)
    names = [path.name, path.with_suffix(".json").name]
    refuse_to_replace(path.parent, names)
    cascade = weights.load()
    content = export_cascade(cascade, shape, _PLATFORMS.value)
    description = {"program": path.name} | describe_export(cascade, shape, _PLATFORMS.value)
    with recording_outputs(path.parent, names), replacing(path) as partial:
        partial.write_bytes(content)
        # Within, so that there is no program without its description.
        write_text(path.with_suffix(".json"), json.dumps(description, indent=1))
    print(f"{path}: {len(content) / 1e6:.1f} MB, described in {path.with_suffix('.json').name}")


if __name__ == "__main__":
    command.run(main, required=("output",))
