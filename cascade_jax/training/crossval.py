"""The paper's experiment: both stages on every fold, with out-of-fold priors between them."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cascade_jax import checkpoint, postprocess, processes
from cascade_jax.account import VoteSummary
from cascade_jax.cascade import STAGES, Cascade, build_networks, compute_dtype, fold_folder, whole_example
from cascade_jax.data import augment, emidec, folders, nnunet, store
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.files import read_json, write_text
from cascade_jax.data.labels import LabelTable
from cascade_jax.data.prepared import PreparedCohort
from cascade_jax.data.preprocess import Example, inside, restore_labels
from cascade_jax.models.graph import predict_prior
from cascade_jax.models.unet import UNet
from cascade_jax.plan import Plan
from cascade_jax.progress import Progress
from cascade_jax.report.confidence import CONFIDENCE_TABLE, write_confidence
from cascade_jax.training.batches import (
    CaseSelection,
    Cohort,
    Draw,
    draw_phantom_slices,
    draw_phantom_volumes,
    draw_slices,
    draw_volumes,
    make_cohort,
    mix_phantoms,
)
from cascade_jax.training.loop import devices_for, fit, stage_plan
from cascade_jax.training.streaming import StreamedCohort, must_stream, streamed_dice
from cascade_jax.training.validation import dice_over_voxels
from cascade_jax.training.windows import HEART_SHARE

SUMMARIES_FILE = "summaries.json"  # of a fold of stage two: what a case's account needs of its probabilities
_OTHER_PRIORS = "holds other cases' predictions; remove the folder to make it again"
ALL_FOLDER = "all"  # of the working folder, where the cascade lies that is trained on every case


def make_folds(names: Sequence[str], count: int, seed: int) -> list[list[str]]:
    """Shuffles the cases once and deals them into `count` folds whose sizes differ by one at most."""
    shuffled = np.random.default_rng(seed).permutation(sorted(names))
    return [sorted(map(str, fold)) for fold in np.array_split(shuffled, count)]


def _select(positions: Sequence[int], size: int) -> CaseSelection:
    """Cases of a cohort, of which there may be `size`."""
    index = np.resize(np.array(positions, np.int32), size)
    return jax.device_put(CaseSelection(index, np.int32(len(positions))))


def make_draw(config: ConfigDict, plan: Plan, networks: tuple[UNet, UNet], stage: int) -> Draw:
    """What draws the batches of a stage (0 or 1)."""
    settings = config[STAGES[stage]]
    augmentation = augment.Augmentation(**settings.augmentation)
    batch_size = stage_plan(plan, stage).batch_size
    if stage == 0:
        of_cohort = draw_slices(batch_size, plan.shape[1:], augmentation)
        of_phantoms = draw_phantom_slices(batch_size, plan)
    else:
        corruption = augment.PriorCorruption(**settings.prior)
        num_classes = len(plan.labels.names)
        share = HEART_SHARE if plan.window is None else 1.0
        of_cohort = draw_volumes(batch_size, plan.volume_shape, augmentation, corruption, num_classes, share)
        of_phantoms = draw_phantom_volumes(batch_size, plan, networks[0], corruption)
    return mix_phantoms(config.phantom_share, of_cohort, of_phantoms) if config.phantom_share > 0 else of_cohort


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


class CrossValidation:
    """One run in one working folder. Every method finds what an earlier run finished and does the rest.

    Args:
        config: as `launch/configs/default.py` describes it.
        workdir: the working folder.
        plan: the cohort's plan.
        examples: the cohort, preprocessed.
        files: where each example's case lies, in the same order.
        progress: wraps loops with a bar.
        initial: the cascade whose parameters training starts from, with the plan's networks; None starts from random
            ones. What comes of them stays under their `licence`.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        plan: Plan,
        examples: PreparedCohort,
        files: Sequence[folders.CaseFiles],
        progress: Progress,
        initial: Cascade | None = None,
    ):
        self.initial, self.licence = initial, "" if initial is None else initial.licence
        self.config, self.workdir, self.plan, self.progress = config, workdir, plan, progress
        self.examples, self.files = examples, {file.name: file for file in files}
        self.names = examples.names
        self.networks = build_networks(plan, compute_dtype(config.compute_dtype))
        path = workdir / "folds.json"
        if not path.exists():
            write_text(path, json.dumps(self._choose_folds(), indent=1))
        self.folds = read_json(path)
        if not isinstance(self.folds, list) or not all(isinstance(fold, list) for fold in self.folds):
            raise CaseError(path, "is damaged: it is no list of folds")
        if sorted(str(name) for fold in self.folds for name in fold) != self.names:
            raise CaseError(path, "names other cases than the cohort has now; use another working folder for those")
        self._streams = must_stream(examples, config.data.memory_gb)
        if self._streams:
            logging.warning("%d cases are more than data.memory_gb holds: they are read while training", len(examples))
        self._resident = None if self._streams else jax.device_put(make_cohort(examples))

    # Which cases

    def _choose_folds(self) -> list[list[str]]:
        if not self.config.data.splits:
            return make_folds(self.names, self.config.num_folds, self.config.seed)
        path = Path(self.config.data.splits)
        folds = nnunet.read_splits(path, self.names)
        if len(folds) != self.config.num_folds:
            raise CaseError(path, f"has {len(folds)} folds where num_folds is {self.config.num_folds}")
        return folds

    def positions(self, fold: int) -> list[int]:
        """The positions in the cohort of a fold's validation cases."""
        places = {name: position for position, name in enumerate(self.names)}
        return [places[name] for name in self.folds[fold]]

    # Training

    def _cohort_of(self, stage: int) -> Cohort | StreamedCohort:
        """What a stage learns from, with stage one's labels in stage two."""
        if self._streams:
            prior, mixes = self._open_priors() if stage else None, self.config.phantom_share > 0
            return StreamedCohort(self.examples, stage_plan(self.plan, stage).batch_size, prior, mixes)
        return self._resident.replace(prior=jax.device_put(self._read_priors())) if stage else self._resident

    def _drawn_from(self, stage: int, cohort: Cohort | StreamedCohort, folder: Path) -> Any:
        """What a stage's batches are drawn from: the cohort and, where phantoms are mixed in, what those need."""
        if self.config.phantom_share == 0:
            return cohort
        params = checkpoint.restore_params(folder.parents[1] / STAGES[0] / folder.name / "params") if stage else None
        return dataclasses.replace(cohort, phantoms=params) if self._streams else (cohort, params)

    def train(self, stage: int, folds: Sequence[int]) -> None:
        """Trains one stage (0 or 1) on some folds and predicts each fold's validation cases.

        Of several processes all have to call it; the first predicts.
        """
        fit_cases = self._fit_cases(stage)
        for fold in folds:
            validation = self.positions(fold)
            training = sorted(set(range(len(self.names))) - set(validation))
            folder = fold_folder(self.workdir, STAGES[stage], fold)
            params = fit_cases(fold, f"fold {fold}", folder, training, validation)
            if processes.is_first():
                (self._predict_volumes if stage else self._predict_slices)(fold, folder, params)
            processes.wait_for_all(f"stage {stage + 1}, fold {fold} is predicted")

    def train_on_all(self) -> Path:
        """Trains one more cascade, on every case; its stage two, on each fold's priors for the cases it had not seen.

        Of several processes all have to call it.

        Returns:
            Its working folder, which has no model file yet.
        """
        processes.wait_for_all("the folds are judged")
        workdir = self.workdir / ALL_FOLDER
        for stage in range(2):
            folder = fold_folder(workdir, STAGES[stage], 0)
            # No case is left to validate on: what the log shows it has seen.
            self._fit_cases(stage)(len(self.folds), "all cases", folder, range(len(self.names)), self.positions(0))
        return workdir

    def _fit_cases(self, stage: int) -> Callable[[int, str, Path, Sequence[int], Sequence[int]], Any]:
        """(number, name, folder, training, validation) -> parameters of one stage.

        All selections of cases have one size, so that they share its programs; the number is that of the draws.
        """
        cohort, largest = self._cohort_of(stage), max(map(len, self.folds))
        draw = make_draw(self.config, self.plan, self.networks, stage)
        size = (self.plan.shape, self.plan.volume_shape)[stage]
        dice: Any
        if self._streams:
            dice = streamed_dice(stage, self.networks[stage], size)
        else:
            dice = jax.jit(dice_over_voxels(stage, self.networks[stage], size))
        devices = devices_for(self.plan, stage)

        def fit_cases(number, name, folder, training, validation):
            validation_cases = validation if self._streams else _select(validation, largest)
            return fit(
                self.config,
                self.plan,
                stage,
                self.networks[stage],
                draw=draw,
                validate=functools.partial(dice, cohort=cohort, cases=validation_cases),
                cohort=self._drawn_from(stage, cohort, folder),
                cases=_select(training, len(self.names)),
                names=self.names,
                devices=devices,
                seed=int(np.random.default_rng([self.config.seed, stage, number]).integers(2**31)),
                folder=folder,
                description=f"stage {stage + 1}, {name}",
                initial_params=None if self.initial is None else self.initial.fold_params(stage, number),
            )

        return fit_cases

    def _validation_cases(self, stage: int, fold: int) -> Iterator[tuple[int, Case]]:
        """A fold's validation cases as they lie in their files, each with its position."""
        description = f"stage {stage + 1}, fold {fold}: predicting its {len(self.folds[fold])} validation cases"
        for position in self.progress(self.positions(fold), description):
            yield position, emidec.read_case(self.files[self.names[position]], self.plan.labels)

    def _predict_slices(self, fold: int, folder: Path, params: Any) -> None:
        """Stage one's labels of a fold's validation cases, as the cascade has them; on the grid of the cohort's
        examples they lie in `folder/predictions`, stage two's priors."""
        marker = folder / "predictions"
        if marker.exists():
            return

        def priors():
            for position, case in self._validation_cases(0, fold):
                example, grid = whole_example(self.plan, case), self.examples.grids[position]
                labels = jax.device_get(self._predict_prior(params, example.image, example.valid))
                write_slice_labels(self.workdir, STAGES[0], labels[None], example, case, self.plan.labels)
                prior = np.zeros(self.examples.shape, np.uint8)
                prior[inside(grid)] = labels[inside(example.grid)]
                yield prior

        # Last, so that it says that all of the fold's predictions are there.
        store.write_array(marker, len(self.folds[fold]), priors())

    @functools.cached_property
    def _predict_prior(self) -> Callable:
        """(params, image, valid) -> stage one's labels."""
        return jax.jit(
            functools.partial(
                predict_prior,
                self.networks[0],
                mirror=self.config.mirror,
                window=self.plan.windows and self.plan.windows[0],
            )
        )

    def _predict_volumes(self, fold: int, folder: Path, params: Any) -> None:
        """Final labels, before postprocessing, of a fold's validation cases: those of the cascade of that fold."""
        if (folder / CONFIDENCE_TABLE).exists():
            return
        cascade, said, summaries = self.cascade_of(fold, params), {}, {}
        output = self.workdir / "predictions" / STAGES[1]
        for _, case in self._validation_cases(1, fold):
            example = cascade.example(case)
            vote = cascade.vote(example)
            result = cascade.segmentation_of(vote, example, case, details=True)
            emidec.write_labels(output, result.labels, case)
            emidec.write_maps(output, result.maps, case)
            said[case.name] = result.confidence
            summaries[case.name] = cascade.summarise(vote, example, case).to_json()
        write_text(folder / SUMMARIES_FILE, json.dumps(summaries))
        # Last, so that it says that all of the fold's predictions are there.
        write_confidence(folder, said, self.plan.labels)

    def read_summaries(self, fold: int) -> dict[str, VoteSummary]:
        """What a fold's probabilities of its validation cases come to: {case: summary}.

        Raises:
            CaseError: the file is missing, damaged or of other cases.
        """
        path = fold_folder(self.workdir, STAGES[1], fold) / SUMMARIES_FILE
        try:
            values = read_json(path)
            return {name: VoteSummary.from_json(values[name]) for name in self.folds[fold]}
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, CaseError):
                raise
            raise CaseError(path, "is damaged; remove the fold's confidence.csv to have it made again") from None

    def cascade_of(self, fold: int, volume_params: Any, rules: Sequence[postprocess.Rule] = ()) -> Cascade:
        """The cascade in which one fold votes alone."""
        slice_params = checkpoint.restore_params(fold_folder(self.workdir, STAGES[0], fold) / "params")
        params = jax.tree.map(lambda leaf: leaf[None], (slice_params, volume_params))
        return Cascade(
            self.plan,
            self.networks,
            params,
            rules,
            (fold,),
            self.config.mirror,
            self.licence,
            name=f"{self.workdir.resolve().name} fold {fold}",
        )

    def _prior_folders(self) -> list[Path]:
        """Where stage one's labels of each fold's validation cases lie."""
        folders_of = [fold_folder(self.workdir, STAGES[0], fold) / "predictions" for fold in range(len(self.folds))]
        for path in folders_of:
            if not path.exists():
                raise CaseError(path, "is missing; stage two needs stage one of every fold: train that first")
        return folders_of

    def _read_priors(self) -> np.ndarray:
        """Stage one's labels of every case, each from the fold that had not seen it: uint8 (case, depth, ...)."""
        priors = np.zeros((len(self.names), *self.examples.shape), np.uint8)
        for fold, path in enumerate(self._prior_folders()):
            stored, positions = store.read_array(path), self.positions(fold)
            if stored.shape != priors[positions].shape:
                raise CaseError(path, _OTHER_PRIORS)
            priors[positions] = stored
        return priors

    def _open_priors(self) -> store.Volumes:
        """The same, to be read case by case."""
        paths = self._prior_folders()
        arrays = [store.open_written(path) for path in paths]
        for fold, (path, array) in enumerate(zip(paths, arrays, strict=True)):
            if array.shape != (len(self.folds[fold]), *self.examples.shape):
                raise CaseError(path, _OTHER_PRIORS)
        order = np.concatenate([self.positions(fold) for fold in range(len(paths))])
        place = self.workdir / STAGES[0]
        remedy = "remove the folder `predictions` that it is in to make it again"
        return store.Volumes(store.joined(arrays), self.names, place, remedy, np.argsort(order))
