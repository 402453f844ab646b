"""What each step of the cascade is good for: the mean Dice after each, and what the vote makes of the folds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cascade_jax.bundle import read_model
from cascade_jax.data.labels import LabelTable, display_name

# What a layer of a report is, in the order in which the cascade makes them: its title, and the key that shows it.
STEPS = {"stage one": "o", "before postprocessing": "b", "prediction": "p"}


def dice_by_step(dice: Sequence[Mapping[str, Mapping]], table: LabelTable) -> dict | None:
    """The mean Dice of every target after each step, as a table of text; None if there is one step only.

    Args:
        dice: of each case, {step: {target: metrics}}.
        table: of the labels.
    """
    steps = [step for step in STEPS if dice and all(step in case for case in dice)]
    if len(steps) < 2:
        return None
    rows = [
        (
            f"{display_name(target)} Dice %",
            [f"{100 * np.mean([case[step][target]['dice'] for case in dice]):.2f}" for step in steps],
        )
        for target in table.targets
    ]
    return {"title": f"What each step changed, mean of {len(dice)} cases", "columns": steps, "rows": rows, "notes": []}


def postprocessing_note(workdir: Path, layers: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """A sentence on the rules that a run kept, and in how many cases they changed anything.

    Args:
        workdir: of the training.
        layers: {case: {layer: labels}}.
    """
    rules = read_model(workdir)["rules"]
    if not rules:
        return "No rule of postprocessing did the cross-validation good: none is applied."
    words = ", ".join(
        rule.name.replace("_", " ") + (f" (below {rule.minimum_mm3:g} mm3)" if rule.minimum_mm3 else "")
        for rule in rules
    )
    both = [case for case in layers.values() if "before postprocessing" in case]
    changed = sum((case["before postprocessing"] != case["prediction"]).any() for case in both)
    return f"Postprocessing: {words}; it changed {changed} of {len(both)} cases."


def vote_note(columns: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """A sentence on what the vote adds to the folds on their own.

    Args:
        columns: Table 3's means, {column: {target: metrics}}.
    """
    vote, alone = columns["ensemble"], columns["final, mean of folds"]
    gains = [f"{display_name(target)} {100 * (vote[target]['dice'] - alone[target]['dice']):+.2f}" for target in vote]
    return f"What the vote adds to the mean Dice of the folds on their own: {', '.join(gains)}."
