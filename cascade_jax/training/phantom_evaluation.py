"""What a cascade makes of random phantoms that it has not seen, and how well it knows."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from cascade_jax import postprocess
from cascade_jax.account import VoteSummary, make_account
from cascade_jax.cascade import Cascade
from cascade_jax.confidence import uncalibrated
from cascade_jax.data.case import Case
from cascade_jax.data.labels import EMIDEC, display_name
from cascade_jax.data.preprocess import Example, Grid
from cascade_jax.metrics import evaluate_labels
from cascade_jax.phantoms.random_phantom import Phantom, draw_phantom
from cascade_jax.plan import Plan
from cascade_jax.progress import Progress
from cascade_jax.training.calibrating import Known, known_case

_DRAWN_AT_ONCE = 8


def draw_phantoms(seed: Sequence[int], count: int, plan: Plan) -> Phantom:
    """`count` random stacks on the plan's grid, each array with the phantoms along its first axis, as numpy arrays."""
    entropy = int(np.random.default_rng(seed).integers(2**31))
    keys = jax.random.split(jax.random.key(entropy), -(-count // _DRAWN_AT_ONCE) * _DRAWN_AT_ONCE)
    draw = jax.jit(jax.vmap(lambda key: draw_phantom(key, plan.shape, plan.spacing[1])))
    groups = [jax.device_get(draw(group)) for group in keys.reshape(-1, _DRAWN_AT_ONCE)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *groups)


def _as_example(phantoms: Phantom, index: int) -> Example:
    """One phantom as a preprocessed case."""
    extent = tuple((int(start), int(stop)) for start, stop in phantoms.extent[index])
    shape = tuple(stop - start for start, stop in extent)
    grid = Grid(shape, tuple((0, size) for size in shape), shape, extent, (0, 0, 0))
    return Example(f"phantom {index:03d}", phantoms.image[index], phantoms.labels[index], grid)


def _spacing(phantoms: Phantom, index: int, plan: Plan) -> tuple[float, float, float]:
    return (float(phantoms.slice_distance[index]), *plan.spacing[1:])


def _as_case(phantoms: Phantom, index: int, plan: Plan) -> Case:
    """One phantom as a case on the plan's grid, with all of its padding."""
    spacing = _spacing(phantoms, index, plan)
    return Case(f"phantom {index:03d}", phantoms.image[index], phantoms.labels[index], spacing)


class Segmented(NamedTuple):
    """A phantom as a case, its labels before postprocessing, and what its account needs of the vote."""

    case: Case
    labels: np.ndarray
    summary: VoteSummary


def segment_phantoms(cascade: Cascade, phantoms: Phantom, progress: Progress) -> list[Segmented]:
    """What a cascade makes of every phantom, before postprocessing."""
    count = len(phantoms.image)
    results = []
    for index in progress(range(count), f"choosing the postprocessing on {count} phantoms"):
        example, case = _as_example(phantoms, index), _as_case(phantoms, index, cascade.plan)
        vote = cascade.vote(example)
        results.append(Segmented(case, vote.labels, cascade.summarise(vote, example, case)))
    return results


def choose_rules_on_phantoms(results: Sequence[Segmented]) -> tuple[postprocess.Rule, ...]:
    """The postprocessing that does the results on phantoms good, and removes least; see `postprocess.choose_rules`."""
    cases = [(one.labels, one.case.labels, one.case.spacing) for one in results]
    return postprocess.choose_rules(cases, sparing=True)


def known_phantoms(results: Sequence[Segmented], rules: Sequence[postprocess.Rule]) -> list[Known]:
    """What a calibration is learnt from: the phantoms' accounts after postprocessing, beside their truth."""
    known = []
    for case, raw, summary in results:
        labels = postprocess.apply(rules, raw, case.spacing)
        known.append(known_case(make_account(summary, labels, case, EMIDEC), labels, case, EMIDEC))
    return known


def evaluate(cascade: Cascade, phantoms: Phantom, progress: Progress) -> dict:
    """Segments every phantom.

    Returns:
        {"cases": {column: {phantom: metrics}} for "stage 1", "stage 2" and, after the postprocessing, "final",
        "confidence": {phantom: {target: expected Dice}}, "doubtful": {phantom: the reason, or None}, "truth_mm3":
        {phantom: {target: volume}}}.
    """
    columns: dict[str, dict] = {"stage 1": {}, "stage 2": {}, "final": {}}
    expected, doubtful, truth = {}, {}, {}
    count = len(phantoms.image)
    for index in progress(range(count), f"segmenting {count} held-out phantoms"):
        example, spacing = _as_example(phantoms, index), _spacing(phantoms, index, cascade.plan)
        vote = cascade.vote(example)
        truth[example.name] = {
            target: float(np.isin(example.labels, labels).sum() * np.prod(spacing))
            for target, labels in cascade.plan.labels.targets.items()
        }
        case = _as_case(phantoms, index, cascade.plan)
        final, confidence = cascade.finish(vote.labels, cascade.summarise(vote, example, case), case)
        if confidence is None:
            confidence = uncalibrated(vote.probabilities, final, spacing)
        expected[example.name], doubtful[example.name] = confidence.expected_dice, confidence.doubtful
        for column, labels in (("stage 1", vote.fold_priors[0]), ("stage 2", vote.labels), ("final", final)):
            columns[column][example.name] = evaluate_labels(labels, example.labels, spacing)
    return {"cases": columns, "confidence": expected, "doubtful": doubtful, "truth_mm3": truth}


def _rows(results: dict) -> list[tuple[str, list[float]]]:
    """Each target's mean Dice in every column, as the challenge counts it and where the target is there at all."""
    columns = results["cases"].values()
    rows = []
    for target in EMIDEC.targets:
        present = [name for name, truth in results["truth_mm3"].items() if truth[target] > 0]
        title = display_name(target)
        rows.append((title, [np.mean([case[target]["dice"] for case in column.values()]) for column in columns]))
        if present:
            rows.append(
                (
                    f"{title}, the {len(present)} phantoms that have it",
                    [np.mean([column[name][target]["dice"] for name in present]) for column in columns],
                )
            )
    return rows


def as_markdown(results: dict) -> str:
    """What `evaluate` returned as a table, and in a sentence how well the cascade knows where it is wrong."""
    names = list(results["confidence"])
    lines = [f"**{len(names)} held-out random phantoms**", ""]
    lines += [f"| Dice % | {' | '.join(results['cases'])} |", "|---" * (1 + len(results["cases"])) + "|"]
    lines += [f"| {title} | " + " | ".join(f"{100 * dice:.1f}" for dice in row) + " |" for title, row in _rows(results)]

    dice = np.array([results["cases"]["final"][name]["myocardium"]["dice"] for name in names])
    expected = np.array([results["confidence"][name]["myocardium"] for name in names])
    doubtful = np.array([results["doubtful"][name] is not None for name in names])
    rank = np.corrcoef(dice.argsort().argsort(), expected.argsort().argsort())[0, 1]
    lines += [
        "",
        f"The expected Dice of the myocardium ranks the phantoms by the true one with a Spearman correlation of "
        f"{rank:.2f}. {doubtful.sum()} are called doubtful: their mean Dice is {_mean_text(dice[doubtful])}, that of "
        f"the others {_mean_text(dice[~doubtful])}.",
    ]
    return "\n".join(lines) + "\n"


def _mean_text(values: np.ndarray) -> str:
    return f"{values.mean():.2f}" if values.size else "-"
