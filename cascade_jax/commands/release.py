"""From a working folder to the two files of a trained cascade that are shipped."""

from pathlib import Path

from cascade_jax import weights
from cascade_jax.bundle import MODEL_FILE, folder_of
from cascade_jax.cascade import STAGES, load
from cascade_jax.data.files import write_text
from cascade_jax.data.outputs import recording_outputs, refuse_to_replace


def release(workdir, output: Path) -> Path:
    """Packs a trained cascade into two files that `load` takes: the model and its weights as float16.

    Args:
        workdir: what `load` takes.
        output: the folder to write.

    Returns:
        The file of weights.
    """
    output = Path(output)
    names = [weights.WEIGHTS_FILE, MODEL_FILE]
    refuse_to_replace(output, names)
    cascade = load(workdir)
    with recording_outputs(output, names):
        weights.write_weights(output / weights.WEIGHTS_FILE, dict(zip(STAGES, cascade.params, strict=True)))
        # Last, for it says that the folder is a trained cascade.
        write_text(output / MODEL_FILE, (folder_of(workdir) / MODEL_FILE).read_text(encoding="utf-8"))
    return output / weights.WEIGHTS_FILE
