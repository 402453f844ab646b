"""Training both stages on random phantoms alone: no file is read, no image is seen twice, nothing real is looked at."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cascade_jax.bundle import MODEL_FILE
from cascade_jax.calibration import CONFIDENCE_FILE, write_calibration
from cascade_jax.cascade import STAGES, build_networks, compute_dtype, fold_folder, input_shapes, load
from cascade_jax.data import augment
from cascade_jax.data.files import write_text
from cascade_jax.models.graph import most_probable, segment_slices
from cascade_jax.models.inflation import inflate
from cascade_jax.models.unet import UNet, params_like
from cascade_jax.plan import Plan, make_plan
from cascade_jax.progress import Progress
from cascade_jax.report.judgement import make_tables
from cascade_jax.report.tables import without_nan
from cascade_jax.report.text_tables import in_markdown
from cascade_jax.training.batches import CaseSelection, Cohort, Draw, draw_phantom_slices, draw_phantom_volumes
from cascade_jax.training.judging import learn_and_judge
from cascade_jax.training.loop import devices_for, fit
from cascade_jax.training.phantom_evaluation import (
    as_markdown,
    choose_rules_on_phantoms,
    draw_phantoms,
    evaluate,
    known_phantoms,
    segment_phantoms,
)
from cascade_jax.training.validation import dice_over_voxels

RESULTS_FILE = "phantoms.json"


def plan_of(config: ConfigDict) -> Plan:
    """The plan that the config spells out.

    Raises:
        ValueError: it cannot be.
    """
    plan = make_plan([config.plan.shape], [config.plan.spacing], config.plan.to_dict())
    if plan.spacing[1] != plan.spacing[2]:
        raise ValueError(f"plan.spacing is {plan.spacing}; phantoms are drawn on square pixels")
    return plan


def make_draw(config: ConfigDict, plan: Plan, networks: tuple[UNet, UNet], stage: int) -> Draw:
    """What draws the batches of a stage (0 or 1)."""
    if stage == 0:
        return draw_phantom_slices(plan.slices.batch_size, plan)
    corruption = augment.PriorCorruption(**config.stage2.prior)
    return draw_phantom_volumes(plan.volumes.batch_size, plan, networks[0], corruption)


class Pretraining:
    """One run in one working folder; what an earlier start finished is not done again.

    Args:
        config: as `launch/configs/pretrain.py` describes it.
        workdir: the working folder, which afterwards is one that `cascade_jax.load` takes.
        progress: wraps loops with a bar.

    Raises:
        ValueError: the plan cannot be, or is not that of `init_from`.
        CaseError: `init_from` holds no finished model.
    """

    def __init__(self, config: ConfigDict, workdir: Path, progress: Progress):
        self.config, self.workdir, self.progress = config, workdir, progress
        self.plan = plan_of(config)
        self.networks = build_networks(self.plan, compute_dtype(config.compute_dtype))
        self._initial, self._licence = self._initial_params()
        self._validation = draw_phantoms((config.seed, 0), config.validation_phantoms, self.plan)

    def _initial_params(self) -> tuple[tuple[Any | None, Any | None], str]:
        """Both stages' parameters in what the config has as `init_from`, and the licence that they are under."""
        if not self.config.init_from:
            return (None, None), ""
        initial = load(self.config.init_from)
        for part in ("slices", "volumes"):
            ours, theirs = getattr(self.plan, part), getattr(initial.plan, part)
            if dataclasses.replace(theirs, batch_size=ours.batch_size) != ours:
                raise ValueError(f"plan.{part} is another network than that of {self.config.init_from}")
        return (initial.fold_params(0, 0), initial.fold_params(1, 0)), initial.licence

    def train(self) -> None:
        """Trains both stages."""
        extent = self._validation.extent
        held_out = Cohort(self._validation.image, self._validation.labels, None, extent, extent)
        held_out = jax.device_put(held_out)
        slice_params = self._fit(0, None, held_out, self._initial[0])

        held_out = held_out.replace(prior=_slice_labels(self.networks[0], slice_params, held_out))
        initial = self._initial[1]
        if initial is None:
            initial = inflate(slice_params, params_like(self.networks[1], input_shapes(self.plan)[1]))
        self._fit(1, slice_params, held_out, initial)

    def _fit(self, stage: int, drawn_from: Any, held_out: Cohort, initial_params: Any | None) -> Any:
        """Trains a stage on what its `make_draw` makes of `drawn_from`, and validates it on phantoms held out."""
        count = len(self._validation.image)
        cases = jax.device_put(CaseSelection(np.arange(count, dtype=np.int32), np.int32(count)))
        dice = jax.jit(dice_over_voxels(stage, self.networks[stage], self.plan.shape))
        # 0, 1 and 3 in the second place are other phantoms than those to train on; numpy takes (1, 0) for (1,).
        seed = int(np.random.default_rng([self.config.seed, 2, stage]).integers(2**31))
        return fit(
            self.config,
            self.plan,
            stage,
            self.networks[stage],
            draw=make_draw(self.config, self.plan, self.networks, stage),
            validate=functools.partial(dice, cohort=held_out, cases=cases),
            cohort=drawn_from,
            cases=None,
            names=("a random phantom",),
            devices=devices_for(self.plan, stage, parallel=self.config.parallel),
            seed=seed,
            folder=fold_folder(self.workdir, STAGES[stage], 0),
            description=f"stage {stage + 1}",
            initial_params=initial_params,
        )

    def write_results(self) -> str:
        """Chooses the postprocessing, learns the confidence, writes both beside the weights, and evaluates on phantoms
        that nothing was chosen on."""
        (self.workdir / CONFIDENCE_FILE).unlink(missing_ok=True)  # of an earlier start; phantoms are chosen on without
        model = {
            "plan": self.plan.to_json(),
            "folds": [0],
            "compute_dtype": self.config.compute_dtype,
            "mirror": self.config.mirror,
            "rules": [],
            "licence": self._licence,
        }
        write_text(self.workdir / MODEL_FILE, json.dumps(model, indent=1))
        phantoms = draw_phantoms((self.config.seed, 3), self.config.postprocessing_phantoms, self.plan)
        segmented = segment_phantoms(load(self.workdir), phantoms, self.progress)
        rules = choose_rules_on_phantoms(segmented)
        learnt = learn_and_judge(known_phantoms(segmented, rules), (), self.plan.labels, sparing=True)
        if learnt is not None:
            write_calibration(self.workdir / CONFIDENCE_FILE, learnt.calibration)
        model["rules"] = [dataclasses.asdict(rule) for rule in rules]
        write_text(self.workdir / MODEL_FILE, json.dumps(model, indent=1))

        held_out = draw_phantoms((self.config.seed, 1), self.config.held_out_phantoms, self.plan)
        results = evaluate(load(self.workdir), held_out, self.progress)
        text = as_markdown(results)
        if learnt is not None:
            results["judgement"] = learnt.judgement
            text += "".join(f"\n{in_markdown(table)}" for table in make_tables(learnt.judgement))
        write_text(self.workdir / RESULTS_FILE, json.dumps(without_nan(results), indent=1, allow_nan=False))
        write_text(self.workdir / "tables.md", text)
        return text


def _slice_labels(network: UNet, params: Any, cohort: Cohort) -> jax.Array:
    """Stage one's labels of every case of a cohort: uint8 (case, depth, height, width)."""

    def one(arrays):
        image, extent = arrays
        labels = most_probable(segment_slices(network, params, image))
        return jnp.where(augment.inside_extent(image.shape, extent), labels, 0).astype(jnp.uint8)

    return jax.jit(lambda arrays: jax.lax.map(one, arrays))((cohort.image, cohort.extent))
