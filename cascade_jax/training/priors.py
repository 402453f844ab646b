"""Stage one's labels of a cross-validation, from which stage two learns."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cascade_jax.cascade import STAGES, fold_folder
from cascade_jax.data import emidec, store
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.labels import LabelTable
from cascade_jax.data.preprocess import Example, restore_labels

_OTHER_CASES = "holds other cases' predictions; remove the folder to make it again"


def write_slice_labels(
    workdir: Path, folder: str, priors: np.ndarray, example: Example, case: Case, table: LabelTable
) -> None:
    """Writes stage one's labels, uint8 (fold, depth, height, width), into `workdir/predictions/<folder>`, in the case's
    own grid.

    Of stage one there are votes only: a tie goes to the lower label.
    """
    one_hot = np.eye(len(table.names), dtype=np.float32)
    labels = restore_labels(one_hot[priors].sum(0), example.grid)
    emidec.write_labels(workdir / "predictions" / folder, labels, case)


@dataclasses.dataclass(frozen=True)
class Priors:
    """Stage one's labels of every case, each from the fold that had not seen it.

    Attributes:
        workdir: of the run, whose folds of stage one have been predicted.
        folds: the names of each fold's cases.
        names: of all cases, in the cohort's order.
        shape: (depth, height, width) of a case.
    """

    workdir: Path
    folds: Sequence[Sequence[str]]
    names: Sequence[str]
    shape: tuple[int, int, int]

    def read(self) -> np.ndarray:
        """All of them: uint8 (case, depth, height, width).

        Raises:
            CaseError: a fold's are missing, damaged or of other cases.
        """
        order, priors = self._order(), np.zeros((len(self.names), *self.shape), np.uint8)
        first = 0
        for fold, path in zip(self.folds, self._paths(), strict=True):
            stored, positions = store.read_array(path), order[first : first + len(fold)]
            if stored.shape != (len(fold), *self.shape):
                raise CaseError(path, _OTHER_CASES)
            priors[positions] = stored
            first += len(fold)
        return priors

    def open(self) -> store.Volumes:
        """The same, to be read case by case; raises CaseError as `read` does."""
        paths = self._paths()
        arrays = [store.open_written(path) for path in paths]
        for fold, path, array in zip(self.folds, paths, arrays, strict=True):
            if array.shape != (len(fold), *self.shape):
                raise CaseError(path, _OTHER_CASES)
        remedy = "remove the folder `predictions` that it is in to make it again"
        place = self.workdir / STAGES[0]
        return store.Volumes(store.joined(arrays), self.names, place, remedy, np.argsort(self._order()))

    def _order(self) -> np.ndarray:
        """Where the folds' cases, one fold after another, are in the cohort."""
        places = {name: position for position, name in enumerate(self.names)}
        return np.array([places[name] for fold in self.folds for name in fold])

    def _paths(self) -> list[Path]:
        paths = [fold_folder(self.workdir, STAGES[0], fold) / "predictions" for fold in range(len(self.folds))]
        for path in paths:
            if not path.exists():
                raise CaseError(path, "is missing; stage two needs stage one of every fold: train that first")
        return paths
