"""What both sides work on: a phantom cohort, the plan of the networks, and folders for what they make."""

import json
from pathlib import Path

from cascade_jax.plan import Plan, StagePlan

# What nnU-Net 2.8 plans for samples of EMIDEC's size.
_FULL = Plan(
    (10.0, 1.43, 1.43),
    (10, 256, 224),
    StagePlan((32, 64, 128, 256, 512, 512), ((3, 3),) * 6, ((1, 1), *((2, 2),) * 5), 4),
    StagePlan(
        (32, 64, 128, 256, 320, 320),
        ((1, 3, 3),) * 2 + ((3, 3, 3),) * 4,
        ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2)),
        2,
    ),
)
_TRIAL = Plan(
    (10.0, 1.43, 1.43),
    (10, 64, 64),
    StagePlan((4, 8, 8), ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)), 4),
    StagePlan((4, 8, 8), ((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), 2),
)
CASES = 6
FOLDS = 5


def loop_steps(platform: str) -> int:
    """Steps of a training loop in one turn.

    On an accelerator enough for the batches that wait in a data loader's queue when a turn starts to be a small part.
    """
    return 2 if platform == "cpu" else 200


def make(folder: Path, trial: bool) -> None:
    """Writes the cohort and the plan; `trial` makes both small."""
    from cascade_jax.phantoms import simulated

    write_plan(folder, trial)
    simulated.write_cohort(cohort(folder), CASES, 0, field_of_view_mm=100 if trial else None)


def write_plan(folder: Path, trial: bool) -> None:
    """The plan alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps((_TRIAL if trial else _FULL).to_json()))


def plan(folder: Path) -> Plan:
    return Plan.from_json(json.loads((Path(folder) / "plan.json").read_text()))


def cohort(folder: Path) -> Path:
    return Path(folder) / "cohort"


def overrides(folder: Path) -> dict:
    """The plan as what `make_plan` takes: nothing is left for it to derive."""
    return plan(folder).to_json()
