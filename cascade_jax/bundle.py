"""The file that makes a folder a trained cascade, and what it says; read without what networks need."""

import math
from pathlib import Path

from cascade_jax.data.case import CaseError
from cascade_jax.data.files import parse_json, read_text
from cascade_jax.data.labels import LabelTable

MODEL_FILE = "model.json"
IN_THE_BOX = ("phantom", "emidec")  # the weights that come with the package, by what they were trained on
PRETRAINED = "pretrained"  # another name for those of them that do better on real scans
_BETTER_ON_SCANS = "emidec"
_BOX = Path(__file__).parent / "pretrained"
PLATFORMS = ("cpu", "cuda", "tpu")  # that a cascade can be exported for
_MOST_FOLDS = 1000
_EARLIER_RULES = {"islands_outside_muscle": "islands_outside_myocardium"}  # names that model files may still have


def name_of(weights) -> str:
    """What weights are called: "pretrained" by the name that it stands for, all others as they are given."""
    return _BETTER_ON_SCANS if weights == PRETRAINED else str(weights)


def is_in_the_box(weights) -> bool:
    """Whether these are weights by name; a `Path` is always a folder."""
    return isinstance(weights, str) and name_of(weights) in IN_THE_BOX


def folder_of(weights) -> Path:
    """The folder of a trained cascade.

    Args:
        weights: a name in the box ("phantom", "emidec", "pretrained"), else a folder. A name in the box goes before a
            folder of the same name in the working directory, which is "./emidec"; a `Path` is always a folder.
    """
    if is_in_the_box(weights):
        return _BOX / name_of(weights)
    return Path(weights)


def read_model(weights) -> dict:
    """What the model file of a trained cascade says.

    Args:
        weights: as for `folder_of`.

    Returns:
        {"plan": a `Plan`, "folds": which ones vote, "compute_dtype", "mirror", "rules": of the postprocessing,
        "licence": one line, "" where the weights are under no other than this package's own}.

    Raises:
        CaseError: there is no finished model, or the file is damaged.
    """
    from cascade_jax.plan import Plan  # not above: a command wants this module's names before it has parsed its flags
    from cascade_jax.postprocess import RULES, Rule

    path = folder_of(weights) / MODEL_FILE
    if not path.exists():
        raise CaseError(
            weights,
            f"has no trained model ({MODEL_FILE} is missing); run or finish `cascade-jax train` first, or choose from "
            f"the weights in the box: {', '.join(IN_THE_BOX)}",
        )
    text = read_text(path)
    try:
        model = parse_json(text)
        rules = [Rule(**rule | {"name": _EARLIER_RULES.get(rule["name"], rule["name"])}) for rule in model["rules"]]
        plan, folds = Plan.from_json(model["plan"]), list(model["folds"])
        if not 0 < len(folds) <= _MOST_FOLDS or any(
            type(fold) is not int or not 0 <= fold < _MOST_FOLDS for fold in folds
        ):
            raise ValueError("folds are whole numbers")
        unknown = [rule.name for rule in rules if rule.name not in RULES]
        if not all(type(rule.minimum_mm3) in (int, float) and 0 <= rule.minimum_mm3 < math.inf for rule in rules):
            raise ValueError("a rule's volume is a number")
        result: dict = {"plan": plan, "folds": folds, "rules": rules}
        result |= {"compute_dtype": str(model["compute_dtype"]), "mirror": bool(model["mirror"])}
        result["licence"] = one_line(model.get("licence") or "")
        if not result["licence"].isprintable():
            raise ValueError("the licence is words that can be printed")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CaseError(path, f"is empty, cut off or no model file ({type(error).__name__})") from None
    if result["compute_dtype"] not in ("auto", "float32", "bfloat16"):
        raise CaseError(path, f"has the unknown compute_dtype {result['compute_dtype']!r}")
    if unknown:
        raise CaseError(path, f"has a postprocessing that this version does not know: {', '.join(map(str, unknown))}")
    return result


def one_line(text: str) -> str:
    """The text without line breaks, and with one space where there are several."""
    return " ".join(text.split())


def load_labels(weights) -> LabelTable:
    """The labels of a trained cascade; raises CaseError as `read_model` does."""
    return read_model(weights)["plan"].labels
