"""Pretraining on random phantoms, which makes the weights "phantom" in the box: no data are read.

    cascade-jax train --config=pretrain --workdir=runs/pretrain

This is the schedule for a CPU; `--config=pretrain:gpu` is that for an accelerator. Every other
command takes the working folder like that of any other run.
"""

import dataclasses

from ml_collections import ConfigDict

from cascade_jax.data.augment_settings import PriorCorruption

# platform: (batch of slices, steps on slices, batch of volumes, steps on volumes, steps in a dispatch)
_SCHEDULES = {"cpu": (12, 4000, 2, 1000, 1), "gpu": (48, 40_000, 8, 40_000, 50)}


def _stage(steps: int, learning_rate: float, steps_per_dispatch: int) -> ConfigDict:
    config = ConfigDict()
    config.steps = steps
    config.optimizer = "adam"
    config.learning_rate = learning_rate
    config.schedule = "cosine"
    config.clip_norm = 1.0
    config.steps_per_dispatch = steps_per_dispatch
    config.validate_every = 200 if steps < 10_000 else 1000
    config.checkpoint_every = config.validate_every
    config.accumulate = 1  # in how many parts a batch is taken; see default.py, of this and the next
    config.rematerialise = False
    return config


def get_config(platform: str = "cpu") -> ConfigDict:
    if platform not in _SCHEDULES:
        raise ValueError(f"pretrain.py:{platform}: known are {', '.join(_SCHEDULES)}")
    slice_batch, slice_steps, volume_batch, volume_steps, steps_per_dispatch = _SCHEDULES[platform]
    config = ConfigDict()
    config.kind = "pretraining"
    config.seed = 0
    # A finished run, or "phantom", the weights in the box that were made so, that this one goes on from. Another seed
    # gives other phantoms.
    config.init_from = ""
    # How much of that run's weights is blended into what comes out: the mean of start and end often finds
    # more. Where the end alone does better on the validation, that comes out; the log says which.
    config.init_share = 0.5  # from 0 (the end of the training alone) to 1
    config.compute_dtype = "auto"
    config.parallel = "jit"  # how several devices share a batch: "jit", "pmap" or "height", as in default.py
    config.mirror = True
    config.validation_phantoms = 32  # for the log
    config.postprocessing_phantoms = 200  # to choose the postprocessing
    config.held_out_phantoms = 200  # for the table at the end; nothing is chosen on them

    config.plan = ConfigDict()
    config.plan.spacing = (10.0, 1.8, 1.8)  # mm along (depth, height, width); phantoms have any slice distance
    config.plan.shape = (8, 144, 144)  # of a training example; at inference any
    config.plan.slices = ConfigDict()
    config.plan.slices.features = (16, 32, 64, 128, 256)
    config.plan.slices.batch_size = slice_batch
    # Stage two starts from stage one's weights, so its layers are the same in the plane, and no stride runs along the
    # depth: a single slice is as good as twenty.
    config.plan.volumes = ConfigDict()
    config.plan.volumes.features = (16, 32, 64, 128, 256)
    config.plan.volumes.kernel_sizes = ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    config.plan.volumes.strides = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2))
    config.plan.volumes.batch_size = volume_batch

    config.stage1 = _stage(slice_steps, 2e-3, steps_per_dispatch)
    config.stage2 = _stage(volume_steps, 1e-3, steps_per_dispatch)
    config.stage2.prior = ConfigDict(dataclasses.asdict(PriorCorruption()))
    return config
