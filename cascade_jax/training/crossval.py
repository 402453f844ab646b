"""The paper's experiment: both stages on every fold, with out-of-fold priors between them."""

import contextlib
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
from cascade_jax.data import emidec, folders, nnunet, store
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.files import read_json, write_text
from cascade_jax.data.prepared import PreparedCohort
from cascade_jax.data.preprocess import inside
from cascade_jax.models.graph import predict_prior
from cascade_jax.models.splitting import split_along_height
from cascade_jax.plan import Plan
from cascade_jax.progress import Progress
from cascade_jax.report.confidence import CONFIDENCE_TABLE, write_confidence
from cascade_jax.spreading import in_order
from cascade_jax.training.batches import (
    CaseSelection,
    Cohort,
    make_cohort,
)
from cascade_jax.training.claim import FolderInUse, claim
from cascade_jax.training.draws import make_draw
from cascade_jax.training.folds import groups_of_devices, make_folds, train_folds
from cascade_jax.training.loop import devices_for, fit, stage_plan
from cascade_jax.training.priors import Priors, write_slice_labels
from cascade_jax.training.step import compile_steps
from cascade_jax.training.streaming import StreamedCohort, must_stream, streamed_dice
from cascade_jax.training.validation import dice_over_voxels

SUMMARIES_FILE = "summaries.json"  # of a fold of stage two: what a case's account needs of its probabilities
ALL_FOLDER = "all"  # of the working folder, where the cascade lies that is trained on every case


def _select(positions: Sequence[int], size: int) -> CaseSelection:
    """Cases of a cohort, of which there may be `size`."""
    index = np.resize(np.array(positions, np.int32), size)
    return jax.device_put(CaseSelection(index, np.int32(len(positions))))


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
        devices: to train and predict on; None is all of this machine's.
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
        devices: Sequence[jax.Device] | None = None,
    ):
        self.devices = list(processes.all_devices() if devices is None else devices)
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

    @property
    def _priors(self) -> Priors:
        return Priors(self.workdir, self.folds, self.names, self.examples.shape)

    def _cohort_of(self, stage: int) -> Cohort | StreamedCohort:
        """What a stage learns from, with stage one's labels in stage two."""
        if self._streams:
            prior, mixes = self._priors.open() if stage else None, self.config.phantom_share > 0
            return StreamedCohort(self.examples, stage_plan(self.plan, stage).batch_size, prior, mixes)
        return self._resident.replace(prior=jax.device_put(self._priors.read())) if stage else self._resident

    def _drawn_from(self, stage: int, cohort: Cohort | StreamedCohort, folder: Path) -> Any:
        """What a stage's batches are drawn from: the cohort and, where phantoms are mixed in, what those need."""
        if self.config.phantom_share == 0:
            return cohort
        params = checkpoint.restore_params(folder.parents[1] / STAGES[0] / folder.name / "params") if stage else None
        return dataclasses.replace(cohort, phantoms=params) if self._streams else (cohort, params)

    def train(self, stage: int, folds: Sequence[int]) -> None:
        """Trains one stage (0 or 1) on some folds and predicts each fold's validation cases.

        Where the config has `share_folds`, a fold that another run has in use is left to it, and waited for at the end.
        Of several processes all have to call it; the first predicts.
        """
        fit_cases, taken = self._fit_cases(stage), []
        at_once = 1 if processes.are_several() else self.config.folds_at_once
        ways = {"at_once": at_once, "parallel": self.config.parallel}
        groups = groups_of_devices(self.plan, stage, self.devices, folds=len(folds), **ways)

        def train_fold(fold, devices, wait=False):
            validation = self.positions(fold)
            training = sorted(set(range(len(self.names))) - set(validation))
            folder = fold_folder(self.workdir, STAGES[stage], fold)
            own = processes.own_devices(devices)
            try:
                with claim(folder, wait=wait) if processes.is_first() else contextlib.nullcontext():
                    params = fit_cases(fold, f"fold {fold}", folder, training, validation, devices)
                    if processes.is_first():
                        (self._predict_volumes if stage else self._predict_slices)(fold, folder, params, own)
            except FolderInUse:
                if not self.config.share_folds:
                    raise
                taken.append(fold)
            processes.wait_for_all(f"stage {stage + 1}, fold {fold} is predicted")

        train_folds(train_fold, folds, groups)
        for fold in taken:
            train_fold(fold, groups[0], wait=True)

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
            devices = devices_for(self.plan, stage, self.devices, self.config.parallel)
            validation = self.positions(0)
            self._fit_cases(stage)(len(self.folds), "all cases", folder, range(len(self.names)), validation, devices)
        return workdir

    def _fit_cases(self, stage: int) -> Callable[[int, str, Path, Sequence[int], Sequence[int], Sequence], Any]:
        """(number, name, folder, training, validation, devices) -> parameters of one stage.

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
        compile_steps.cache_clear()  # of the programs of another stage

        def fit_cases(number, name, folder, training, validation, devices):
            own = processes.own_devices(devices)[0]
            validated = cohort, validation
            if not self._streams:
                validated = jax.device_put((cohort, _select(validation, largest)), own)
            start = None if self.initial is None else self.initial.fold_params(stage, number)
            return fit(
                self.config,
                self.plan,
                stage,
                self.networks[stage],
                draw=draw,
                validate=functools.partial(dice, cohort=validated[0], cases=validated[1]),
                cohort=self._drawn_from(stage, cohort, folder),
                cases=_select(training, len(self.names)),
                names=self.names,
                devices=devices,
                seed=int(np.random.default_rng([self.config.seed, stage, number]).integers(2**31)),
                folder=folder,
                description=f"stage {stage + 1}, {name}",
                initial_params=jax.device_put(start, own),
            )

        return fit_cases

    def _of_validation_cases(
        self, stage: int, fold: int, predict: Callable[[Any, Case], Any], workers: Sequence[Any]
    ) -> Iterator[tuple[int, Case, Any]]:
        """A fold's validation cases as they lie in their files, each with its position before and behind it what
        `predict(worker, case)` makes of it; each worker is one of a device (`spreading.in_order`)."""
        description = f"stage {stage + 1}, fold {fold}: predicting its {len(self.folds[fold])} validation cases"

        def of_position(worker, position):
            case = emidec.read_case(self.files[self.names[position]], self.plan.labels)
            return position, case, predict(worker, case)

        positions = self.positions(fold)
        results = in_order(of_position, workers, positions)
        for _, result in zip(self.progress(positions, description), results, strict=True):
            yield result

    def _predict_slices(self, fold: int, folder: Path, params: Any, devices: Sequence[jax.Device]) -> None:
        """Stage one's labels of a fold's validation cases, as the cascade has them; on the grid of the cohort's
        examples they lie in `folder/predictions`, stage two's priors."""
        marker = folder / "predictions"
        if marker.exists():
            return
        split = self.config.parallel == "height"

        def predict(params, case):
            example = whole_example(self.plan, case)
            volume = example.image, example.valid
            if split:
                params, *volume = split_along_height(params, volume, devices)
            return example, jax.device_get(self._predict_prior(params, *volume))

        workers = [jax.device_put(params, device) for device in devices[: 1 if split else len(self.folds[fold])]]

        def priors():
            for position, case, (example, labels) in self._of_validation_cases(0, fold, predict, workers):
                write_slice_labels(self.workdir, STAGES[0], labels[None], example, case, self.plan.labels)
                prior = np.zeros(self.examples.shape, np.uint8)
                prior[inside(self.examples.grids[position])] = labels[inside(example.grid)]
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

    def _predict_volumes(self, fold: int, folder: Path, params: Any, devices: Sequence[jax.Device]) -> None:
        """Final labels, before postprocessing, of a fold's validation cases: those of the cascade of that fold."""
        if (folder / CONFIDENCE_TABLE).exists():
            return
        cascade, said, summaries = self.cascade_of(fold, params, devices=devices), {}, {}
        output = self.workdir / "predictions" / STAGES[1]

        def predict(cascade, case):
            example = cascade.example(case)
            return example, cascade.vote(example)

        workers = cascade.for_cases(len(self.folds[fold]))
        for _, case, (example, vote) in self._of_validation_cases(1, fold, predict, workers):
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

    def cascade_of(
        self,
        fold: int,
        volume_params: Any,
        rules: Sequence[postprocess.Rule] = (),
        devices: Sequence[jax.Device] | None = None,
    ) -> Cascade:
        """The cascade in which one fold votes alone, on some devices."""
        slice_params = checkpoint.restore_params(fold_folder(self.workdir, STAGES[0], fold) / "params")
        params = jax.tree.map(lambda leaf: leaf[None], (slice_params, volume_params))
        about = (self.plan, self.networks, params, rules, (fold,), self.config.mirror, self.licence, None)
        name, split = f"{self.workdir.resolve().name} fold {fold}", self.config.parallel == "height"
        return Cascade(*about, name, devices or self.devices, split)
