"""What the labels of a task are called, and which of them form the targets that are evaluated."""

import dataclasses
from collections.abc import Mapping, Sequence

from cascade_jax.data.case import INFARCTION, LABEL_NAMES, MYOCARDIUM, NO_REFLOW


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """The labels of a task.

    Attributes:
        names: of the labels, by value; 0 is the background.
        targets: {what is evaluated: the labels that form it together}. The first is the one that every case has: cases
            are ranked by it, and one without it is doubtful.
    """

    names: tuple[str, ...]
    targets: Mapping[str, tuple[int, ...]] = dataclasses.field(hash=False)

    @property
    def main(self) -> str:
        """The first target."""
        return next(iter(self.targets))

    def container(self, target: str) -> str | None:
        """The smallest other target that a target is a part of, as no-reflow is of infarction; None without one."""
        members = set(self.targets[target])
        around = [name for name, labels in self.targets.items() if members < set(labels)]
        return min(around, key=lambda name: len(self.targets[name]), default=None)

    def replacement(self, target: str) -> int:
        """The label of a voxel that turns out not to be of a target: what else its container has, or background."""
        around = self.container(target)
        return 0 if around is None else min(set(self.targets[around]) - set(self.targets[target]))

    def to_json(self) -> dict:
        return {"names": list(self.names), "targets": {name: list(labels) for name, labels in self.targets.items()}}

    @staticmethod
    def from_json(values: Mapping) -> "LabelTable":
        """What `to_json` gave; raises TypeError, KeyError or ValueError if it is none."""
        names, targets = tuple(values["names"]), values["targets"]
        for label in (label for labels in targets.values() for label in labels):
            if type(label) is not int or not 0 <= label < len(names):
                raise ValueError("a target's labels are whole numbers, by which the names are counted")
        by_name = [(target, [names[label] for label in labels]) for target, labels in targets.items()]
        return make_label_table(names, by_name)


# The challenge's labels. What knows of infarcts (its choice of metrics, postprocessing, quantities) is for this table.
EMIDEC = LabelTable(
    LABEL_NAMES,
    {
        "myocardium": (MYOCARDIUM, INFARCTION, NO_REFLOW),
        "infarction": (INFARCTION, NO_REFLOW),
        "no_reflow": (NO_REFLOW,),
    },
)


def make_label_table(names: Sequence[str], targets: Sequence[tuple[str, Sequence[str]]]) -> LabelTable:
    """A table from names alone, as a config has it.

    Args:
        names: of the labels, by value, the background first.
        targets: pairs of a target's name and the names of the labels that form it.

    Raises:
        ValueError: there is no label or no target, a name comes twice or cannot be printed, or a target's label is not
            among the names.
    """
    names = tuple(names)
    for name in (*names, *(target for target, _ in targets)):
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise ValueError(f"names has {name!r}; a name is words that can be printed")
    if not 2 <= len(names) <= 255 or len(set(names)) < len(names):
        raise ValueError(f"names is {names}; a background and 1 to 254 labels are needed, each name once")
    if not targets or len({name for name, _ in targets}) < len(targets):
        raise ValueError(f"targets is {tuple(targets)}; at least one is needed, each name once")
    for target, members in targets:
        if not members or any(member not in names[1:] for member in members):
            raise ValueError(f"target {target} is {tuple(members)}; choose from {', '.join(names[1:])}")
    return LabelTable(names, {target: tuple(names.index(member) for member in members) for target, members in targets})


def display_name(name: str) -> str:
    """A label's or a target's name as a reader is shown it."""
    return name.replace("_", "-")
