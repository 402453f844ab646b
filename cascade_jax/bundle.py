"""The file that makes a folder a trained cascade, and what it says; read without what networks need."""

import json
from pathlib import Path

from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import LabelTable

MODEL_FILE = "model.json"
PRETRAINED = "pretrained"
PLATFORMS = ("cpu", "cuda", "tpu")  # that a cascade can be exported for
_IN_THE_BOX = Path(__file__).parent / PRETRAINED
_EARLIER_RULES = {"islands_outside_muscle": "islands_outside_myocardium"}  # names that model files may still have


def folder_of(workdir) -> Path:
    """The folder of a trained cascade; "pretrained" is the one in the box."""
    return _IN_THE_BOX if workdir == PRETRAINED else Path(workdir)


def read_model(workdir) -> dict:
    """What the model file of a trained cascade says.

    Returns:
        {"plan": a `Plan`, "folds": which ones vote, "compute_dtype", "mirror", "rules": of the postprocessing}.

    Raises:
        CaseError: there is no finished model, or the file is damaged.
    """
    from cascade_jax.plan import Plan  # not above: a command wants this module's names before it has parsed its flags
    from cascade_jax.postprocess import RULES, Rule

    path = folder_of(workdir) / MODEL_FILE
    if not path.exists():
        raise CaseError(
            workdir, f"has no trained model ({MODEL_FILE} is missing); run or finish `cascade-jax train` first"
        )
    try:
        model = json.loads(path.read_text(encoding="utf-8"))
        rules = [Rule(**rule | {"name": _EARLIER_RULES.get(rule["name"], rule["name"])}) for rule in model["rules"]]
        plan, folds = Plan.from_json(model["plan"]), [int(fold) for fold in model["folds"]]
        unknown = [rule.name for rule in rules if rule.name not in RULES]
        result = {"plan": plan, "folds": folds, "rules": rules}
        result |= {"compute_dtype": str(model["compute_dtype"]), "mirror": bool(model["mirror"])}
    except OSError as error:
        raise CaseError(path, f"cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CaseError(path, f"is empty, cut off or no model file ({type(error).__name__})") from None
    if result["compute_dtype"] not in ("auto", "float32", "bfloat16"):
        raise CaseError(path, f"has the unknown compute_dtype {result['compute_dtype']!r}")
    if unknown:
        raise CaseError(path, f"has a postprocessing that this version does not know: {', '.join(unknown)}")
    return result


def load_labels(workdir) -> LabelTable:
    """The labels of a trained cascade; raises CaseError as `read_model` does."""
    return read_model(workdir)["plan"].labels
