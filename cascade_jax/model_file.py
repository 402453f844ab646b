"""The file that makes a folder a trained cascade, and what it says; read without what networks need."""

import json
from pathlib import Path

from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import LabelTable
from cascade_jax.plan import Plan

MODEL_FILE = "model.json"
PRETRAINED = "pretrained"
_IN_THE_BOX = Path(__file__).parent / PRETRAINED


def folder_of(workdir) -> Path:
    """The folder of a trained cascade; "pretrained" is the one in the box."""
    return _IN_THE_BOX if workdir == PRETRAINED else Path(workdir)


def read_model(workdir) -> dict:
    """What the model file of a trained cascade says.

    Raises:
        CaseError: there is no finished model.
    """
    path = folder_of(workdir) / MODEL_FILE
    if not path.exists():
        raise CaseError(workdir, f"has no trained model ({MODEL_FILE} is missing); run or finish launch.train first")
    return json.loads(path.read_text())


def load_labels(workdir) -> LabelTable:
    """The labels of a trained cascade; raises CaseError as `read_model` does."""
    return Plan.from_json(read_model(workdir)["plan"]).labels
