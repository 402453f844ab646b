"""Trains both stages on several devices and on one, with the same global batch, and prints how far they are apart.

Run by test_training.py in a process of its own, since the number of devices is fixed when JAX starts:

    python -m tests.training.eight_devices FOLDER

What `fits` leaves in FOLDER, a run that was stopped, another number of devices goes on with.
"""

import functools
import json
import os
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cascade_jax import checkpoint
from cascade_jax.data.augment import Augmentation, PriorCorruption
from cascade_jax.models import UNet
from cascade_jax.plan import Plan, StagePlan
from cascade_jax.training.batches import CaseSelection, Cohort, draw_slices, draw_volumes
from cascade_jax.training.loop import fit
from cascade_jax.training.step import compile_steps, initial_state, mesh_of, replicated_over, train_step
from launch.configs import default
from tests.training.killing import killed_at
from tests.training.on_eight_devices import cross_validations, predictions

STEPS = 3
SHAPE = (4, 16, 16)
NETWORKS = (
    UNet((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2))),
    UNet((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2))),
)
INPUT_SHAPES = ((*SHAPE[1:], 1), (*SHAPE, 5))
OPTIMIZER = optax.adam(0.01)
NAMES = tuple("abcdef")


def draw_cohort():
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, (len(NAMES), *SHAPE)).astype(np.uint8)
    image = (labels + random.normal(size=labels.shape)).astype(np.float32)
    # Padding of different sizes: devices hold different numbers of valid voxels.
    extent = np.array([[[0, 2 + i % 3], [i % 4, 16], [0, 16 - i]] for i in range(len(NAMES))], np.int32)
    return jax.device_put(Cohort(image, labels, labels, extent, extent))


def all_cases():
    return jax.device_put(CaseSelection(np.arange(len(NAMES), dtype=np.int32), np.int32(len(NAMES))))


@functools.cache  # as in a run, all share what is compiled with it
def draw_of(stage, batch_size):
    if stage == 0:
        return draw_slices(batch_size, SHAPE[1:], Augmentation())
    return draw_volumes(batch_size, SHAPE, Augmentation(), PriorCorruption(), 5)


def share_off(actual, expected):
    """The share of all parameters that differ by more than 1e-4."""
    pairs = list(zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True))
    off = sum((np.abs(np.asarray(one) - np.asarray(other)) > 1e-4).sum() for one, other in pairs)
    return float(off / sum(one.size for one, _ in pairs))


def same_on_all_devices(tree, count):
    """Whether each of so many devices holds the same whole arrays."""
    return all(
        len(leaf.addressable_shards) == count
        and all((np.asarray(shard.data) == np.asarray(leaf)).all() for shard in leaf.addressable_shards)
        for leaf in jax.tree.leaves(tree)
    )


def start(stage, batch_size, sharding=None):
    """State, cohort and cases of the first step."""
    state = initial_state(jax.random.key(0), NETWORKS[stage], OPTIMIZER, (batch_size, *INPUT_SHAPES[stage]))
    return jax.device_put((state, draw_cohort(), all_cases()), sharding)


def train(run, batch_size, state, cohort, cases):
    losses, drawn = [], []
    for _ in range(STEPS):
        state, metrics = run(state, cohort, cases)
        losses.append(metrics["loss"].item())
        drawn.append(metrics["case"][0, :batch_size].tolist())
    return state.params, losses, drawn


def compare(stage, batch_size, devices, parallel, parts=1):
    """Several steps of draw and training on some devices, and on one without a mesh."""
    network, draw, mesh = NETWORKS[stage], draw_of(stage, batch_size), mesh_of(devices)
    one = compile_steps(network, OPTIMIZER, draw, 1)
    params, losses, drawn = train(one, batch_size, *start(stage, batch_size))
    run = compile_steps(network, OPTIMIZER, draw, 1, mesh, batch_size, parallel, parts=parts)
    many_params, many_losses, many_drawn = train(run, batch_size, *start(stage, batch_size, replicated_over(mesh)))
    return {
        "losses": many_losses,
        "one_device_losses": losses,
        "same_cases": many_drawn == drawn,
        "same_on_all_devices": same_on_all_devices(many_params, len(devices)),
        "share_of_parameters_off": share_off(many_params, params),
    }


def largest_batch(stage, batch_size, devices, parts=1):
    """The largest first dimension of feature maps at full resolution in the program that each device runs."""
    network, mesh = NETWORKS[stage], mesh_of(devices)
    run = compile_steps(network, OPTIMIZER, draw_of(stage, batch_size), 1, mesh, batch_size, parts=parts)
    program = run.lower(*start(stage, batch_size, replicated_over(mesh))).compile().as_text()
    maps = ",".join(map(str, INPUT_SHAPES[stage][:-1]))
    return max(size for size in range(1, batch_size + 1) if f"f32[{size},{maps},4]" in program)


def step_on_explicit_axes(stage):
    """`train_step` alone, on a mesh with Explicit axes (`mesh_of` has Auto ones), and on one device."""
    network, batch_size = NETWORKS[stage], 8
    state, cohort, cases = start(stage, batch_size)
    batch = jax.jit(draw_of(stage, batch_size))(jax.random.key(1), cohort, cases)
    step = jax.jit(functools.partial(train_step, network=network, optimizer=OPTIMIZER))
    expected, metrics = step(state, batch)
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Explicit,))
    state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("batch")))
    actual, actual_metrics = step(state, batch)
    return {
        "losses": [actual_metrics["loss"].item()],
        "one_device_losses": [metrics["loss"].item()],
        "same_on_all_devices": same_on_all_devices(actual.params, 8),
        "share_of_parameters_off": share_off(actual.params, expected.params),
    }


def settings(stage, batch_size, parallel="jit"):
    """The config and the plan of a short fit."""
    config = default.get_config()
    config.parallel = parallel
    for one in (config.stage1, config.stage2):
        one.steps, one.steps_per_dispatch, one.validate_every, one.checkpoint_every = 6, 1, 3, 2
    parts = [StagePlan(n.features, n.kernel_sizes, n.strides, batch_size) for n in NETWORKS]
    return config, Plan((10.0, 2.0, 2.0), SHAPE, *parts)


def fit_one(stage, devices, folder, parallel="jit", batch_size=8):
    """The whole loop on a small cohort."""
    config, plan = settings(stage, batch_size, parallel)
    return fit(
        config,
        plan,
        stage,
        NETWORKS[stage],
        draw=draw_of(stage, batch_size),
        validate=jax.jit(lambda params: jnp.zeros(4)),
        cohort=draw_cohort(),
        cases=all_cases(),
        names=NAMES,
        devices=devices,
        seed=0,
        folder=folder,
        description=folder.name,
    )


def fits(stage, devices, folder, parallel):
    """Whole, and stopped and gone on with: whether both end with the same bits. A stopped one is left."""
    with killed_at(5):
        fit_one(stage, devices, folder / f"stopped{stage}", parallel)
    shutil.copytree(folder / f"stopped{stage}", folder / f"parts{stage}")
    parts = fit_one(stage, devices, folder / f"parts{stage}", parallel)
    whole = fit_one(stage, devices, folder / f"whole{stage}", parallel)
    pairs = zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True)
    return all(bool((one == other).all()) for one, other in pairs)


def goes_on(stage, devices, folder):
    """How far what was stopped on eight devices ends on others from where it ends on eight."""
    shutil.copytree(folder / f"stopped{stage}", folder / f"others{stage}")
    ended = fit_one(stage, devices, folder / f"others{stage}")
    return share_off(ended, checkpoint.restore_params(folder / f"whole{stage}" / "params"))


def main():
    devices, folder = jax.local_devices(), Path(sys.argv[1])
    results = {
        # Shares of two samples or three, of which the last holds one alone; then parts of two samples' height. `fits`
        # are of one sample on each of eight devices.
        "comparisons": [
            compare(0, 7, devices[:4], "jit"),
            compare(0, 7, devices[:4], "pmap"),
            compare(1, 7, devices[:3], "jit"),
            compare(1, 2, devices, "height"),
            # Of each device's share of two samples, first one, then the other.
            compare(0, 7, devices[:4], "jit", parts=2),
            compare(0, 7, devices[:4], "pmap", parts=2),
        ],
        "largest_batch": largest_batch(1, 8, devices),
        "largest_batch_in_parts": largest_batch(0, 16, devices, parts=2),
        "explicit_axes": step_on_explicit_axes(1),
        "fits": [fits(0, devices, folder, "pmap"), fits(1, devices, folder, "jit")],
        "on_two": goes_on(1, devices[:2], folder),
        "predictions": predictions(devices),
        "cross_validations": cross_validations(devices, folder) if os.environ.get("CASCADE_JAX_LONG") else None,
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
