"""Removing scattered voxels: rules on labels, each kept only if the cross-validation shows that it does no harm."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from cascade_jax import metrics
from cascade_jax.data.case import BACKGROUND, CAVITY, INFARCTION, MYOCARDIUM, NO_REFLOW
from cascade_jax.data.labels import EMIDEC, LabelTable

_CONNECTED = ndimage.generate_binary_structure(3, 3)  # voxels that share a corner
_IN_PLANE = ndimage.generate_binary_structure(3, 1) & (np.arange(3) == 1)[:, None, None]
_LEAST_OVERLAP = 0.5  # of a cavity's shadow along the depth with the ventricle's, to be part of it
_THICKEST_WALL_MM = 20.0
USUAL_THICKNESS_MM = 10.0  # of a single slice whose file does not say it


def largest_heart(labels: np.ndarray, spacing: Sequence[float], minimum_mm3: float) -> np.ndarray:
    """Drops every component of the heart (all labels but background) except the largest."""
    del spacing, minimum_mm3
    components, count = ndimage.label(labels != BACKGROUND, _CONNECTED)
    if count < 2:
        return labels
    sizes = np.bincount(components.ravel())
    return np.where(components == 1 + np.argmax(sizes[1:]), labels, BACKGROUND).astype(np.uint8)


def one_ventricle(labels: np.ndarray, spacing: Sequence[float], minimum_mm3: float) -> np.ndarray:
    """Drops a second cavity, such as the right ventricle's or the stomach's, and the myocardium drawn around it.

    Of the cavity's components the ventricle is the one that has the most myocardium nearest to it, counted by the share
    of its rim in the plane that is myocardium. Others are dropped where they do not lie over or under it, as parts of
    one ventricle do; so is myocardium that is nearer to them than to the ventricle and farther from it than a wall is
    thick.
    """
    del minimum_mm3
    cavities, count = ndimage.label(labels == CAVITY)  # through faces, so that what touches at an edge stays apart
    if count < 2:
        return labels
    myocardium = labels >= MYOCARDIUM
    nearest = ndimage.distance_transform_edt(cavities == 0, spacing, return_distances=False, return_indices=True)
    walls = np.bincount(cavities[tuple(nearest)][myocardium], minlength=count + 1)
    components = [cavities == number for number in range(1, count + 1)]
    rims = [ndimage.binary_dilation(component, _IN_PLANE) & ~component for component in components]
    surrounded = np.array([(rim & myocardium).sum() / max(rim.sum(), 1) for rim in rims])
    ventricle = components[int(np.argmax(surrounded * walls[1:]))]
    shadow = ventricle.any(axis=0)
    second = np.zeros_like(myocardium)
    for component in components:
        if shadow[component.any(axis=0)].mean() < _LEAST_OVERLAP:
            second |= component
    if not second.any():
        return labels
    to_ventricle, to_second = (ndimage.distance_transform_edt(~mask, sampling=spacing) for mask in (ventricle, second))
    around_second = myocardium & (to_second < to_ventricle) & (to_ventricle > _THICKEST_WALL_MM)
    return largest_heart(np.where(second | around_second, BACKGROUND, labels).astype(np.uint8), spacing, 0.0)


def islands_outside_myocardium(labels: np.ndarray, spacing: Sequence[float], minimum_mm3: float) -> np.ndarray:
    """Drops components of infarction and no-reflow that touch neither normal myocardium nor the cavity.

    If no component touches them (there is no myocardium to lie in), all stay.
    """
    del spacing, minimum_mm3
    components, count = ndimage.label(labels >= INFARCTION, _CONNECTED)
    myocardium = ndimage.binary_dilation((labels == CAVITY) | (labels == MYOCARDIUM), _CONNECTED)
    touching = np.unique(components[myocardium & (components > 0)])
    if not touching.size or touching.size == count:
        return labels
    return np.where((components > 0) & ~np.isin(components, touching), BACKGROUND, labels).astype(np.uint8)


def _without_small(labels, diseased, replacement, spacing, minimum_mm3) -> np.ndarray:
    components, count = ndimage.label(diseased, _CONNECTED)
    if not count:
        return labels
    volumes = np.bincount(components.ravel()) * np.prod(spacing)
    return np.where((volumes < minimum_mm3)[components] & diseased, replacement, labels).astype(np.uint8)


def small_infarction(labels: np.ndarray, spacing: Sequence[float], minimum_mm3: float) -> np.ndarray:
    """Turns components of infarction with no-reflow below a volume into normal myocardium."""
    return _without_small(labels, labels >= INFARCTION, MYOCARDIUM, spacing, minimum_mm3)


def small_no_reflow(labels: np.ndarray, spacing: Sequence[float], minimum_mm3: float) -> np.ndarray:
    """Turns components of no-reflow below a volume into infarction."""
    return _without_small(labels, labels == NO_REFLOW, INFARCTION, spacing, minimum_mm3)


def little_infarction(labels: np.ndarray, spacing: Sequence[float], minimum_mm3: float) -> np.ndarray:
    """Turns all infarction with no-reflow into normal myocardium where it is below a volume in the whole heart.

    So a heart has an infarct or has none; one with an infarct keeps its small components too.
    """
    if (labels >= INFARCTION).sum() * np.prod(spacing) >= minimum_mm3:
        return labels
    return np.where(labels >= INFARCTION, MYOCARDIUM, labels).astype(np.uint8)


RULES: dict[str, Callable[[np.ndarray, Sequence[float], float], np.ndarray]] = {
    rule.__name__: rule
    for rule in (
        largest_heart,
        one_ventricle,
        islands_outside_myocardium,
        small_infarction,
        little_infarction,
        small_no_reflow,
    )
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """One rule of `RULES` by its name, with the volume in mm3 below which it removes, where it has one."""

    name: str
    minimum_mm3: float = 0.0


_VOLUMES_MM3 = (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0)

CANDIDATES: tuple[tuple[Rule, ...], ...] = (
    # In the order in which they are tried; of volumes that do equal good, the smallest removes the least elsewhere.
    (Rule("largest_heart"),),
    (Rule("one_ventricle"),),
    (Rule("islands_outside_myocardium"),),
    tuple(Rule("little_infarction", volume) for volume in _VOLUMES_MM3),
    tuple(Rule("small_no_reflow", volume) for volume in _VOLUMES_MM3),
)


def apply(rules: Sequence[Rule], labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Applies rules one after another.

    Args:
        rules: the rules.
        labels: uint8 (depth, height, width).
        spacing: mm along the same axes. A single slice of unknown thickness, NaN, counts as one of the usual 10 mm.

    Returns:
        uint8 labels of the same shape.
    """
    if np.isnan(spacing[0]):
        spacing = (USUAL_THICKNESS_MM, *spacing[1:])
    for rule in rules:
        labels = RULES[rule.name](labels, spacing, rule.minimum_mm3)
    return labels


def _around_hearts(labels: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, cut to what either labels and a voxel around it: rules and Dice see no more, and take far less time."""
    occupied = np.nonzero((labels != BACKGROUND) | (truth != BACKGROUND))
    box = tuple(slice(max(0, where.min() - 1), where.max() + 2) if where.size else slice(1) for where in occupied)
    return labels[box], truth[box]


def _dice(cases: Sequence[tuple[np.ndarray, np.ndarray, Sequence[float]]], table: LabelTable) -> np.ndarray:
    """The Dice of each of (labels, truth, spacing) and each target: (case, target)."""
    return np.array(
        [
            [metrics.dice(np.isin(labels, target), np.isin(truth, target)) for target in table.targets.values()]
            for labels, truth, _ in cases
        ]
    )


def _known_beside(group: Sequence[Rule], known: Sequence[Rule]) -> list[Rule]:
    """The known rules that are no candidates, but about what a group is: small_infarction with little_infarction."""
    subjects = {rule.name.split("_", 1)[1] for rule in group}
    return [rule for rule in known if rule not in group and rule.name.split("_", 1)[1] in subjects]


def _stands_out(differences: np.ndarray) -> bool:
    """Whether the mean over cases is above 0 by more than one standard error; a single case never makes it so."""
    if len(differences) < 2:
        return False
    return differences.mean() > differences.std(ddof=1) / np.sqrt(len(differences)) + 1e-9


def choose_rules(
    cases: Sequence[tuple[np.ndarray, np.ndarray, Sequence[float]]],
    candidates: Sequence[Sequence[Rule]] | None = None,
    table: LabelTable = EMIDEC,
    known: Sequence[Rule] = (),
    sparing: bool = False,
) -> tuple[Rule, ...]:
    """Chooses rules by cross-validated results, as nnU-Net does.

    A rule is kept only if it lowers no target's mean Dice and raises their mean. One that is known to do good is kept
    unless it lowers one, or another of its group does better, by more than one standard error over the cases (the rule
    of Breiman et al. 1984, Classification and Regression Trees). With the challenge's labels `largest_heart` and
    `one_ventricle` are known: that a patient has one heart needs no evidence, that small infarcts are false does.

    Args:
        cases: (labels, truth, spacing) of each case, predicted by a network that had not seen it.
        candidates: groups of rules in the order in which they are tried. From each group at most one is kept: the
            one with the highest mean Dice, the earlier one if two are equal. None takes `CANDIDATES`, or for other
            labels than the challenge's the largest component alone.
        table: of the labels.
        known: candidates that other cases have shown to do good: those of the weights that training started from.
        sparing: of a group, keep the first that helps and is not worse than the best by more than one standard error.
            For cases that are not those to come: how many of them have no infarct tells nothing about patients, and
            what a larger volume gains on them it takes from true small infarcts.

    Returns:
        The rules that are kept.
    """
    if candidates is None:
        candidates = CANDIDATES if table == EMIDEC else CANDIDATES[:1]
    if table == EMIDEC:
        known = (*known, Rule("largest_heart"), Rule("one_ventricle"))
    chosen: list[Rule] = []
    cases = [(*_around_hearts(labels, truth), spacing) for labels, truth, spacing in cases]
    reached = _dice(cases, table)
    for group in candidates:
        helping, best_known = [], None
        for rule in (*_known_beside(group, known), *group):
            changed = [(apply([rule], labels, spacing), truth, spacing) for labels, truth, spacing in cases]
            dice = _dice(changed, table)
            if rule in known:
                helps = not any(map(_stands_out, (reached - dice).T))
            else:
                gain = dice.mean(axis=0) - reached.mean(axis=0)
                helps = (gain >= 0).all() and gain.mean() > 0
            if helps:
                helping.append((rule, dice, changed))
                if rule in known:
                    best_known = helping[-1]
        best = max(helping, key=lambda one: one[1].mean(), default=None)
        if sparing:
            best = next((one for one in helping if not _stands_out((best[1] - one[1]).mean(axis=1))), best)
        if best_known is not None and not _stands_out((best[1] - best_known[1]).mean(axis=1)):
            best = best_known
        if best is not None:
            rule, reached, cases = best
            chosen.append(rule)
    return tuple(chosen)
