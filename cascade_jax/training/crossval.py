"""The paper's experiment: both stages on every fold, out-of-fold priors between them, and its three tables."""

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cascade_jax import checkpoint, postprocess
from cascade_jax.bundle import MODEL_FILE
from cascade_jax.cascade import (
    STAGES,
    Cascade,
    build_networks,
    compute_dtype,
    fold_folder,
    input_shapes,
    load,
    whole_example,
)
from cascade_jax.cpu import compilation
from cascade_jax.data import augment, emidec, folders, nnunet, store
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.files import read_json, write_text
from cascade_jax.data.labels import LabelTable
from cascade_jax.data.preprocess import Example, Grid, restore_labels
from cascade_jax.metrics import evaluate_labels
from cascade_jax.models.graph import predict_prior
from cascade_jax.plan import Plan
from cascade_jax.progress import Progress
from cascade_jax.report.expected_dice import EXPECTED_DICE_FILE, read_expected_dice, write_expected_dice
from cascade_jax.report.figures import draw_case, write_colour_tables
from cascade_jax.training.batches import CaseSelection, Cohort, draw_slices, draw_volumes
from cascade_jax.training.loop import Trainer, fit, make_trainer
from cascade_jax.training.validation import dice_over_voxels


def make_folds(names: Sequence[str], count: int, seed: int) -> list[list[str]]:
    """Shuffles the cases once and deals them into `count` folds whose sizes differ by one at most."""
    shuffled = np.random.default_rng(seed).permutation(sorted(names))
    return [sorted(map(str, fold)) for fold in np.array_split(shuffled, count)]


def cut_to(labels: np.ndarray, whole: Grid, part: Grid) -> np.ndarray:
    """The labels of a whole case on the grid of an example that holds a part of it; 0 in the padding.

    Args:
        labels: uint8 (depth, height, width), on the grid `whole`.
        whole, part: two grids of one case at one spacing; of the first nothing of the case is cut off.

    Returns:
        uint8, the voxels of `part`'s extent and nothing around it.
    """
    inside = tuple(
        slice(start + offset, start + offset + stop - first)
        for (start, _), (first, stop), offset in zip(whole.extent, part.extent, part.offset, strict=True)
    )
    return labels[inside]


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
            ones.
    """

    def __init__(
        self,
        config,
        workdir: Path,
        plan: Plan,
        examples: Sequence[Example],
        files: Sequence[folders.CaseFiles],
        progress: Progress,
        initial: Cascade | None = None,
    ):
        self._initial = initial
        self.config, self.workdir, self.plan, self.progress = config, workdir, plan, progress
        self.examples, self.files = examples, {file.name: file for file in files}
        self.names = [example.name for example in examples]
        self.networks = build_networks(plan, compute_dtype(config.compute_dtype))
        path = workdir / "folds.json"
        if not path.exists():
            write_text(path, json.dumps(self._choose_folds(), indent=1))
        self.folds = read_json(path)
        if not isinstance(self.folds, list) or not all(isinstance(fold, list) for fold in self.folds):
            raise CaseError(path, "is damaged: it is no list of folds")
        if sorted(str(name) for fold in self.folds for name in fold) != self.names:
            raise CaseError(path, "names other cases than the cohort has now; use another working folder for those")
        extents = np.array([example.grid.extent for example in examples], np.int32)
        self._cohort = jax.device_put(
            Cohort(
                np.stack([example.image for example in examples]),
                np.stack([example.labels for example in examples]),
                None,
                extents,
            )
        )

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
        return [self.names.index(name) for name in self.folds[fold]]

    def _selections(self, fold: int) -> tuple[CaseSelection, CaseSelection]:
        """A fold's training and validation cases, of the same sizes for every fold."""
        validation = self.positions(fold)
        train = [position for position in range(len(self.names)) if position not in validation]
        sizes = [len(names) for names in self.folds]

        def select(positions, size):
            index = np.resize(np.array(positions, np.int32), size)
            return jax.device_put(CaseSelection(index, np.int32(len(positions))))

        return select(train, len(self.names) - min(sizes)), select(validation, max(sizes))

    # Training

    def _trainer(self, stage: int) -> Trainer:
        settings = self.config[STAGES[stage]]
        augmentation = augment.Augmentation(**settings.augmentation)
        if stage == 0:
            draw = draw_slices(self.plan.slices.batch_size, augmentation)
        else:
            corruption = augment.PriorCorruption(**settings.prior)
            draw = draw_volumes(self.plan.volumes.batch_size, augmentation, corruption, len(self.plan.labels.names))
        network = self.networks[stage]
        validate = compilation.jit(dice_over_voxels(stage, network))
        return make_trainer(STAGES[stage], settings, self.plan, network, input_shapes(self.plan)[stage], draw, validate)

    def train(self, stage: int, folds: Sequence[int]) -> None:
        """Trains one stage (0 or 1) on some folds and predicts each fold's validation cases."""
        cohort = self._cohort
        if stage == 1:
            cohort = cohort.replace(prior=jax.device_put(self._read_priors()))
        trainer = self._trainer(stage)
        for fold in folds:
            folder = fold_folder(self.workdir, STAGES[stage], fold)
            selections = self._selections(fold)
            seed = int(np.random.default_rng([self.config.seed, stage, fold]).integers(2**31))
            description = f"stage {stage + 1}, fold {fold}"
            initial = None if self._initial is None else self._initial.fold_params(stage, fold)
            share = self.config.init_share
            params = fit(trainer, folder, cohort, *selections, self.names, seed, description, initial, share)
            (self._predict_volumes if stage else self._predict_slices)(fold, folder, params)

    def _validation_cases(self, stage: int, fold: int) -> Iterator[tuple[int, Case]]:
        """A fold's validation cases as they lie in their files, each with its position."""
        description = f"stage {stage + 1}, fold {fold}: predicting its {len(self.folds[fold])} validation cases"
        for position in self.progress(self.positions(fold), description):
            yield position, emidec.read_case(self.files[self.names[position]], self.plan.labels)

    def _predict_slices(self, fold: int, folder: Path, params: Any) -> None:
        """Stage one's labels of a fold's validation cases, each whole, as the cascade has them; what the examples of
        stage two's training hold of them lies in `folder/predictions`, its priors."""
        marker = folder / "predictions"
        if marker.exists():
            return
        priors = []
        for position, case in self._validation_cases(0, fold):
            example, part = whole_example(self.plan, case), self.examples[position]
            labels = jax.device_get(self._predict_prior(params, example.image, example.valid))
            self._write_prior(STAGES[0], labels[None], example, case)
            priors.append(np.zeros(part.image.shape, np.uint8))
            priors[-1][part.valid] = cut_to(labels, example.grid, part.grid).ravel()
        # Last, so that it says that all of the fold's predictions are there.
        store.write_array(marker, np.stack(priors))

    @functools.cached_property
    def _predict_prior(self) -> Callable:
        """(params, image, valid) -> stage one's labels."""
        return compilation.jit(functools.partial(predict_prior, self.networks[0], mirror=self.config.mirror))

    def _write_prior(self, folder: str, priors: np.ndarray, example: Example, case: Case) -> np.ndarray:
        """Writes stage one's labels, uint8 (fold, depth, height, width), in the case's own grid, which are returned.

        Of stage one there are votes only: a tie goes to the lower label.
        """
        one_hot = np.eye(len(self.plan.labels.names), dtype=np.float32)
        labels = restore_labels(one_hot[priors].sum(0), example.grid)
        emidec.write_labels(self.workdir / "predictions" / folder, labels, case)
        return labels

    def _predict_volumes(self, fold: int, folder: Path, params: Any) -> None:
        """Final labels, before postprocessing, of a fold's validation cases: those of the cascade of that fold."""
        if (folder / EXPECTED_DICE_FILE).exists():
            return
        cascade, expected = self._cascade_of(fold, params), {}
        output = self.workdir / "predictions" / STAGES[1]
        for _, case in self._validation_cases(1, fold):
            result = cascade.segment_case(case, details=True)
            emidec.write_labels(output, result.labels, case)
            emidec.write_maps(output, result.maps, case)
            expected[case.name] = result.expected_dice
        # Last, so that it says that all of the fold's predictions are there.
        write_expected_dice(folder, expected, self.plan.labels)

    def _cascade_of(self, fold: int, volume_params: Any, rules: Sequence[postprocess.Rule] = ()) -> Cascade:
        """The cascade in which one fold votes alone."""
        slice_params = checkpoint.restore_params(fold_folder(self.workdir, STAGES[0], fold) / "params")
        params = jax.tree.map(lambda leaf: leaf[None], (slice_params, volume_params))
        return Cascade(self.plan, self.networks, params, rules, (fold,), self.config.mirror)

    def _read_priors(self) -> np.ndarray:
        """Stage one's labels of every case, each from the fold that had not seen it: uint8 (case, depth, ...)."""
        priors = np.zeros(self._cohort.labels.shape, np.uint8)
        for fold in range(len(self.folds)):
            path = fold_folder(self.workdir, STAGES[0], fold) / "predictions"
            if not path.exists():
                raise CaseError(path, "is missing; stage two needs stage one of every fold: train that first")
            stored, positions = store.read_array(path), self.positions(fold)
            if stored.shape != priors[positions].shape:
                raise CaseError(path, "holds other cases' predictions; remove the folder to make it again")
            priors[positions] = stored
        return priors

    # Results

    def _read(self, folder: str, name: str) -> np.ndarray:
        path = emidec.contour_path(self.workdir / "predictions" / folder, name)
        return emidec.read_labels(path, self.plan.labels)[0]

    def _evaluate(self, labels: np.ndarray, case: Case) -> dict:
        return evaluate_labels(labels, case.labels, case.spacing, self.plan.labels)

    def write_results(self, folds: Sequence[int]) -> dict:
        """Chooses the postprocessing, writes the model file and the final predictions, and evaluates both stages.

        Returns:
            {"table1": ..., "table2": ...}: {column: {case: metrics}} for the folds given.
        """
        table = self.plan.labels
        names = [name for fold in folds for name in self.folds[fold]]
        cases = {
            name: emidec.read_case(self.files[name], table) for name in self.progress(names, "evaluating both stages")
        }
        raw = {name: self._read(STAGES[1], name) for name in names}
        rules = postprocess.choose_rules(
            [(raw[name], case.labels, case.spacing) for name, case in cases.items()],
            table=table,
            known=() if self._initial is None else self._initial.rules,
        )
        final = {name: postprocess.apply(rules, raw[name], case.spacing) for name, case in cases.items()}
        predictions = self.workdir / "predictions"
        for other in self.files.keys() - final.keys():  # of folds that an earlier start ended with
            shutil.rmtree(predictions / "final" / other, ignore_errors=True)
        for name, labels in final.items():
            emidec.write_labels(predictions / "final", labels, cases[name])
        fold_folders = [fold_folder(self.workdir, STAGES[1], fold) for fold in folds]
        expected = {name: dice for folder in fold_folders for name, dice in read_expected_dice(folder, table).items()}
        for fold in folds:
            changed = [name for name in self.folds[fold] if (final[name] != raw[name]).any()]
            if changed:
                params = checkpoint.restore_params(fold_folder(self.workdir, STAGES[1], fold) / "params")
                cascade = self._cascade_of(fold, params, rules)
                expected |= {name: cascade.segment_case(cases[name]).expected_dice for name in changed}
        write_expected_dice(predictions / "final", expected, table)
        write_colour_tables(predictions, table)
        model = {
            "plan": self.plan.to_json(),
            "folds": list(folds),
            "compute_dtype": self.config.compute_dtype,
            "mirror": self.config.mirror,
            "rules": [dataclasses.asdict(rule) for rule in rules],
        }
        write_text(self.workdir / MODEL_FILE, json.dumps(model, indent=1))

        def columns(predictions: Mapping[str, np.ndarray]):
            return {
                f"fold {fold}": {name: self._evaluate(predictions[name], cases[name]) for name in self.folds[fold]}
                for fold in folds
            }

        return {
            "table1": columns({name: self._read(STAGES[0], name) for name in names}),
            "table2": columns(final),
        }

    def held_out(self, root: Path) -> dict:
        """The folds' vote on cases that no fold has seen; stage one's, and what postprocessing changed, lie beside it.

        Returns:
            {column: {case: metrics}}: "ensemble", and each fold's "stage 1" and "final" result on its own.
        """
        cascade = load(self.workdir)
        predictions = self.workdir / "predictions"
        columns: dict[str, dict] = {"ensemble": {}}
        expected: dict[str, dict[str, float]] = {}
        one_hot = np.eye(len(self.plan.labels.names), dtype=np.float32)
        files = folders.find_cases(root, labelled=True)
        for file in self.progress(files, f"the {len(cascade.folds)} folds vote on {len(files)} held-out cases"):
            case = emidec.read_case(file, self.plan.labels)
            example = cascade.example(case)
            vote = cascade.vote(example)
            result = cascade.segmentation_of(vote, example, case, details=True)
            emidec.write_labels(predictions / "held_out", result.labels, case)
            emidec.write_maps(predictions / "held_out", result.maps, case)
            self._write_prior("held_out_stage1", vote.fold_priors, example, case)
            emidec.write_labels(predictions / "held_out_stage2", cascade.majority(vote, example), case)
            expected[case.name] = result.expected_dice
            columns["ensemble"][case.name] = self._evaluate(result.labels, case)
            for fold, prior, final in zip(cascade.folds, vote.fold_priors, vote.fold_labels, strict=True):
                for column, labels in (("stage 1", prior), ("final", final)):
                    restored = restore_labels(one_hot[labels], example.grid)
                    if column == "final":
                        restored = cascade.postprocess(restored, case)
                    columns.setdefault(f"{column}, fold {fold}", {})[case.name] = self._evaluate(restored, case)
        write_expected_dice(predictions / "held_out", expected, self.plan.labels)
        return columns


def draw_cases(
    workdir: Path, kind: str, root: Path, panels: Mapping[str, str], names: Sequence[str], table: LabelTable
) -> None:
    """Draws cases beside the truth into `workdir/figures/<kind>`.

    Args:
        workdir: the working folder.
        kind: of the cohort, since two cohorts may use the same names.
        root: the cohort.
        panels: {title: folder of `workdir/predictions`}.
        names: which cases.
        table: of the labels.
    """
    folder = workdir / "figures" / kind
    folder.mkdir(parents=True, exist_ok=True)
    files = {file.name: file for file in folders.find_cases(root, labelled=True)}
    for name in names:
        case = emidec.read_case(files[name], table)
        drawn = {
            title: emidec.read_labels(emidec.contour_path(workdir / "predictions" / source, name), table)[0]
            for title, source in panels.items()
        }
        draw_case(
            folder / f"{name}.png",
            case.image,
            {"truth": case.labels, **drawn},
            spacing=case.spacing,
            title=name,
            table=table,
        )
