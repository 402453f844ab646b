"""Whether a working folder may go on: the same settings, and the same cases and weights to start from."""

import json
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from cascade_jax.bundle import PRETRAINED, name_of
from cascade_jax.cascade import STAGES
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import read_json

# What may differ between two starts of the same run: which part of it is done this time, how several devices and runs
# are used, and what is drawn.
_NOT_RECORDED = (
    "folds",
    "stages",
    "parallel",
    "folds_at_once",
    "share_folds",
    "figures",
    "figure_cases",
    "all_cases",
)
_NOT_RECORDED_OF_DATA = ("prepared", "processes", "memory_gb")  # where and how fast the same is read
_NOT_RECORDED_OF_STAGE = ("accumulate", "rematerialise")  # of the same results, how much memory they take
# Where the files lie may differ too, as long as the same stands in them: `check_same_inputs`.
_PATHS = ("root", "images", "held_out", "splits")
_MOST_NAMED = 5
_BEFORE_CONFIG = (
    "data",
    "prepared",
    "folds.json",
    "inputs.json",
)  # what a start leaves that was stopped before its record


def recorded_settings(config: ConfigDict) -> dict:
    """The settings that a working folder stands for."""
    values = json.loads(config.to_json_best_effort())
    for name in _NOT_RECORDED_OF_DATA:
        values.get("data", {}).pop(name, None)
    _forget_memory(values)
    return {
        key: name_of(value) if key == "init_from" else value
        for key, value in values.items()
        if key not in _NOT_RECORDED
    }


def _forget_memory(values: dict) -> None:
    """Takes out how much memory the stages may take."""
    for stage in STAGES:
        if isinstance(values.get(stage), dict):
            values[stage] = {key: value for key, value in values[stage].items() if key not in _NOT_RECORDED_OF_STAGE}


def check_same_config(workdir: Path, config: ConfigDict) -> None:
    """Raises CaseError if the working folder was made with another config, or by something else."""
    path = workdir / "config.json"
    if not path.exists():
        others = [one.name for one in sorted(workdir.iterdir()) if one.name not in _BEFORE_CONFIG]
        if visible := [name for name in others if not name.startswith(".")]:
            raise CaseError(workdir, f"is no working folder, for it holds {visible[0]}: choose another, or a new one")
        return
    old, new = read_json(path), recorded_settings(config)
    if not isinstance(old, dict):
        raise CaseError(path, "is damaged: it holds no settings")
    _forget_memory(old)
    # Before the kind was a setting, a pretraining had one of that name.
    old.setdefault("kind", "pretraining" if old.pop("pretraining", False) else "cross-validation")
    if old["kind"] == "cross-validation":
        old.setdefault("phantom_share", 0.0)
    # Where there was one set of weights in the box, it was called so.
    if old.get("init_from") == PRETRAINED:
        old["init_from"] = "phantom"
    places, new_places = old.get("data"), new.get("data")
    if isinstance(places, dict) and isinstance(new_places, dict):
        if "root" in places:
            places.update({"corrected": False, "images": ""} | places)  # of before there were such settings
        places |= {name: new_places[name] for name in _PATHS if places.get(name) and new_places.get(name)}
    if different := _differences(old, new):
        raise CaseError(workdir, f"was made with another config; these settings differ: {', '.join(different)}")


def is_trained(workdir: Path) -> bool:
    """Whether anything in the working folder depends on what it was made from."""
    return any(any(workdir.glob(f"{stage}/fold*/{made}")) for stage in STAGES for made in ("params", "checkpoints"))


def check_same_inputs(workdir: Path, root: Path, checksums: Mapping[str, str]) -> None:
    """Makes sure that all that is trained in a working folder is trained on the same.

    Args:
        workdir: the working folder, whose `inputs.json` an earlier start wrote.
        root: where the cohort lies now.
        checksums: of the cohort's files, and of what else training starts from, by name. Without "init_from", that is
            not compared.

    Raises:
        CaseError: networks in the working folder were trained on something else; it names what changed.
    """
    path = workdir / "inputs.json"
    if not path.exists() or not is_trained(workdir):
        return
    before = read_json(path)
    if not isinstance(before, dict):
        raise CaseError(path, "is damaged: it holds no checksums")
    names = sorted((before.keys() | checksums.keys()) - ({"init_from"} - checksums.keys()))
    changed = [name for name in names if before.get(name) != checksums.get(name)]
    if changed:
        more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
        raise CaseError(
            root,
            f"is not what {workdir} was trained on; changed: {', '.join(changed[:_MOST_NAMED])}{more}; use another "
            "working folder, or put back what was there",
        )


def _differences(old, new, prefix: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in _differences(old.get(key), new.get(key), f"{prefix}.{key}")
        ]
    return [] if old == new else [f"{prefix[1:]} (was {old}, is {new})"]
