"""The paper's experiment: both stages on every fold, out-of-fold priors between them, and its three tables."""

import dataclasses
import functools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from cascade_jax import compilation, postprocess, training
from cascade_jax.confidence import doubt, expected_dice
from cascade_jax.data import augment, emidec, nnunet, store
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.files import write_text
from cascade_jax.data.labels import LabelTable
from cascade_jax.data.preprocess import Example, restore_labels, restore_scores
from cascade_jax.evaluation import evaluate_labels
from cascade_jax.expected_dice import read_expected_dice, write_expected_dice
from cascade_jax.figures import draw_case, write_colour_tables
from cascade_jax.fitting import Trainer, fit, make_trainer
from cascade_jax.inference import (
    STAGES,
    Cascade,
    build_networks,
    compute_dtype,
    fold_folder,
    input_shapes,
    load,
)
from cascade_jax.model_file import MODEL_FILE
from cascade_jax.plan import Plan
from cascade_jax.prediction import write_maps
from cascade_jax.progress import Progress
from cascade_jax.validation import dice_over_voxels, predict_one


def make_folds(names: Sequence[str], count: int, seed: int) -> list[list[str]]:
    """Shuffles the cases once and deals them into `count` folds whose sizes differ by one at most."""
    shuffled = np.random.default_rng(seed).permutation(sorted(names))
    return [sorted(map(str, fold)) for fold in np.array_split(shuffled, count)]


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
        files: Sequence[emidec.CaseFiles],
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
        self.folds = json.loads(path.read_text())
        if sorted(name for fold in self.folds for name in fold) != self.names:
            raise CaseError(path, "names other cases than the cohort has now; use another working folder for those")
        extents = np.array([example.grid.extent for example in examples], np.int32)
        self._cohort = jax.device_put(
            training.Cohort(
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

    def _selections(self, fold: int) -> tuple[training.CaseSelection, training.CaseSelection]:
        """A fold's training and validation cases, of the same sizes for every fold."""
        validation = self.positions(fold)
        train = [position for position in range(len(self.names)) if position not in validation]
        sizes = [len(names) for names in self.folds]

        def select(positions, size):
            index = np.resize(np.array(positions, np.int32), size)
            return jax.device_put(training.CaseSelection(index, np.int32(len(positions))))

        return select(train, len(self.names) - min(sizes)), select(validation, max(sizes))

    # Training

    def _trainer(self, stage: int) -> Trainer:
        settings = self.config[STAGES[stage]]
        augmentation = augment.Augmentation(**settings.augmentation)
        if stage == 0:
            draw = training.draw_slices(self.plan.slices.batch_size, augmentation)
        else:
            corruption = augment.PriorCorruption(**settings.prior)
            draw = training.draw_volumes(
                self.plan.volumes.batch_size, augmentation, corruption, len(self.plan.labels.names)
            )
        network = self.networks[stage]
        validate = compilation.jit(dice_over_voxels(stage, network))
        return make_trainer(STAGES[stage], settings, self.plan, network, input_shapes(self.plan)[stage], draw, validate)

    def train(self, stage: int, folds: Sequence[int]) -> None:
        """Trains one stage (0 or 1) on some folds and predicts each fold's validation cases."""
        cohort = self._cohort
        if stage == 1:
            cohort = cohort.replace(prior=jax.device_put(self._read_priors()))
        trainer = self._trainer(stage)
        predict = compilation.jit(
            functools.partial(predict_one, stage, self.networks[stage], mirror=self.config.mirror)
        )
        for fold in folds:
            folder = fold_folder(self.workdir, STAGES[stage], fold)
            selections = self._selections(fold)
            seed = int(np.random.default_rng([self.config.seed, stage, fold]).integers(2**31))
            description = f"stage {stage + 1}, fold {fold}"
            initial = None if self._initial is None else self._initial.fold_params(stage, fold)
            share = self.config.init_share
            params = fit(trainer, folder, cohort, *selections, self.names, seed, description, initial, share)
            self._predict_validation(stage, fold, folder, cohort, lambda *arrays, p=params: predict(p, *arrays))

    def _predict_validation(self, stage: int, fold: int, folder: Path, cohort: training.Cohort, predict) -> None:
        marker = folder / "predictions"
        if marker.exists():
            return
        labels, expected = [], {}
        output = self.workdir / "predictions" / STAGES[stage]
        description = f"stage {stage + 1}, fold {fold}: predicting its {len(self.folds[fold])} validation cases"
        for position in self.progress(self.positions(fold), description):
            example = self.examples[position]
            prior = None if cohort.prior is None else cohort.prior[position]
            probabilities = jax.device_get(predict(cohort.image[position], prior))
            labels.append(np.where(example.valid, probabilities.argmax(-1), 0).astype(np.uint8))
            background = np.eye(probabilities.shape[-1], dtype=np.float32)[0]
            inside = np.where(example.valid[..., None], probabilities, background)
            expected[example.name] = expected_dice(inside, labels[-1], self.plan.labels)
            case = emidec.read_case(self.files[example.name], self.plan.labels)
            restored = restore_scores(probabilities, example.grid)
            emidec.write_labels(output, restored.argmax(-1).astype(np.uint8), case)
            emidec.write_map(output, emidec.DOUBT, doubt(restored), case)
        write_expected_dice(folder, expected, self.plan.labels)
        # Last, so that it says that all of the fold's predictions are there.
        store.write_array(marker, np.stack(labels))

    def _read_priors(self) -> np.ndarray:
        """Stage one's labels of every case, each from the fold that had not seen it: uint8 (case, depth, ...)."""
        priors = np.zeros(self._cohort.labels.shape, np.uint8)
        for fold in range(len(self.folds)):
            path = fold_folder(self.workdir, STAGES[0], fold) / "predictions"
            if not path.exists():
                raise CaseError(path, "is missing; stage two needs stage one of every fold: train that first")
            priors[self.positions(fold)] = store.read_array(path)
        return priors

    # Results

    def _read(self, folder: str, name: str) -> np.ndarray:
        path = emidec.contour_path(self.workdir / "predictions" / folder, name)
        return emidec.read_labels(path, self.plan.labels)[0]

    def _evaluate(self, labels: np.ndarray, case: Case) -> dict:
        return evaluate_labels(labels, case.labels, case.spacing, self.plan.labels)

    def finish(self, folds: Sequence[int]) -> dict:
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
        folders = [fold_folder(self.workdir, STAGES[1], fold) for fold in folds]
        expected = {name: dice for folder in folders for name, dice in read_expected_dice(folder, table).items()}
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
        files = emidec.find_cases(root, labelled=True)
        for file in self.progress(files, f"the {len(cascade.folds)} folds vote on {len(files)} held-out cases"):
            case = emidec.read_case(file, self.plan.labels)
            example = cascade.example(case)
            vote = cascade.vote(example)
            result = cascade.conclude(vote, example, case, details=True)
            emidec.write_labels(predictions / "held_out", result.labels, case)
            write_maps(predictions / "held_out", result, case)
            # Of stage one there are votes only: a tie goes to the lower label.
            priors = restore_labels(one_hot[vote.fold_priors].sum(0), example.grid)
            emidec.write_labels(predictions / "held_out_stage1", priors, case)
            emidec.write_labels(predictions / "held_out_stage2", cascade.majority(vote, example), case)
            expected[case.name] = result.expected_dice
            columns["ensemble"][case.name] = self._evaluate(result.labels, case)
            for fold, prior, final in zip(cascade.folds, vote.fold_priors, vote.fold_labels, strict=True):
                for column, labels in (("stage 1", prior), ("final", final)):
                    restored = restore_labels(one_hot[labels], example.grid)
                    if column == "final":
                        restored = cascade.finish(restored, case)
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
    files = {file.name: file for file in emidec.find_cases(root, labelled=True)}
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
