"""From a working folder to the files of a trained cascade that are shipped."""

from pathlib import Path

from cascade_jax import weights
from cascade_jax.bundle import MODEL_FILE, folder_of
from cascade_jax.calibration import CONFIDENCE_FILE, write_calibration
from cascade_jax.cascade import STAGES, load
from cascade_jax.data.files import write_text
from cascade_jax.data.outputs import recording_outputs, refuse_to_replace


def release(workdir, output: Path) -> Path:
    """Packs a trained cascade into files that `load` takes: the model, its weights as float16 and its confidence.

    Args:
        workdir: what `load` takes.
        output: the folder to write.

    Returns:
        The file of weights.
    """
    output = Path(output)
    names = [weights.WEIGHTS_FILE, CONFIDENCE_FILE, MODEL_FILE]
    refuse_to_replace(output, names)
    cascade = load(workdir)
    with recording_outputs(output, names):
        weights.write_weights(output / weights.WEIGHTS_FILE, dict(zip(STAGES, cascade.params, strict=True)))
        if cascade.calibration is None:
            (output / CONFIDENCE_FILE).unlink(missing_ok=True)  # of other weights
        else:
            write_calibration(output / CONFIDENCE_FILE, cascade.calibration)
        # Last, for it says that the folder is a trained cascade.
        write_text(output / MODEL_FILE, (folder_of(workdir) / MODEL_FILE).read_text(encoding="utf-8"))
    return output / weights.WEIGHTS_FILE
