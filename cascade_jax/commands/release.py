"""From a working folder to the files of a trained cascade that are shipped: model, weights, and their licence."""

import json
from pathlib import Path

from cascade_jax.bundle import MODEL_FILE, folder_of, one_line
from cascade_jax.calibration import CONFIDENCE_FILE, write_calibration
from cascade_jax.cascade import STAGES, load
from cascade_jax.data.files import read_json, write_text
from cascade_jax.data.outputs import recording_outputs, refuse_to_replace
from cascade_jax.weights import WEIGHTS_FILE, write_weights

LICENCE_FILE = "LICENCE"
_CC_BY_NC_SA = """
{files} in this folder are under the licence
Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International (CC BY-NC-SA 4.0):
https://creativecommons.org/licenses/by-nc-sa/4.0/
In full: https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode

What it asks of whoever shares them, or networks trained from them:

- Attribution: name the source, link to the licence, and say what was changed.
- NonCommercial: do not use them for commercial purposes.
- ShareAlike: share what you make of them under the same licence.
"""
_EMIDEC = """
The data that they were trained on, to be cited:

Lalande A. et al. Emidec: A Database Usable for the Automatic Evaluation of Myocardial Infarction from
Delayed-Enhancement Cardiac MRI. Data 2020, 5(4), 89. https://doi.org/10.3390/data5040089
"""


def release(workdir, output: Path, licence: str = "") -> Path:
    """Packs a trained cascade into files that `load` takes: the model, its weights as float16, its confidence, and a
    `LICENCE`, where they are under another than this package's own.

    Args:
        workdir: what `load` takes.
        output: the folder to write.
        licence: of the weights, in one line; "" keeps the one that they have, if any.

    Returns:
        The file of weights.
    """
    output = Path(output)
    names = [WEIGHTS_FILE, CONFIDENCE_FILE, LICENCE_FILE, MODEL_FILE]
    refuse_to_replace(output, names)
    cascade = load(workdir)
    given = one_line(licence)
    if cascade.licence not in given:  # what is trained from weights keeps their licence
        given = "; trained from weights under ".join(filter(None, (given, cascade.licence)))
    licence = given
    model = read_json(folder_of(workdir) / MODEL_FILE) | {"licence": licence}
    with recording_outputs(output, names):
        write_weights(output / WEIGHTS_FILE, dict(zip(STAGES, cascade.params, strict=True)))
        if cascade.calibration is None:
            (output / CONFIDENCE_FILE).unlink(missing_ok=True)  # of other weights
        else:
            write_calibration(output / CONFIDENCE_FILE, cascade.calibration)
        if licence:
            write_text(output / LICENCE_FILE, licence_text(licence))
        else:
            (output / LICENCE_FILE).unlink(missing_ok=True)  # of an earlier release into this folder
        # Last, for it says that the folder is a trained cascade.
        write_text(output / MODEL_FILE, json.dumps(model, indent=1))
    return output / WEIGHTS_FILE


def licence_text(licence: str) -> str:
    """What stands in the file beside weights that are under a licence: its line, and what is known of it."""
    text = f"{licence}\n"
    if "CC BY-NC-SA 4.0" in licence:
        text += _CC_BY_NC_SA.format(files=f"{WEIGHTS_FILE}, {CONFIDENCE_FILE} and {MODEL_FILE}")
    if "EMIDEC" in licence:
        text += _EMIDEC
    return text
