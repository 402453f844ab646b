"""Trains both stages on several devices and on one, with the same global batch, and prints how far they are apart.

Run by test_training.py in a process of its own, since the number of devices is fixed when JAX starts.
"""

import dataclasses
import json
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cascade_jax.data.augment import Augmentation, PriorCorruption
from cascade_jax.data.labels import EMIDEC
from cascade_jax.models import UNet
from cascade_jax.training.batches import CaseSelection, Cohort, draw_slices, draw_volumes
from cascade_jax.training.loop import Trainer, fit
from cascade_jax.training.step import compile_steps, initial_state, replicate

STEPS = 3


def draw_cohort():
    random = np.random.default_rng(0)
    shape = (4, 16, 16)
    labels = random.integers(0, 5, (6, *shape)).astype(np.uint8)
    image = (labels + random.normal(size=labels.shape)).astype(np.float32)
    # Padding of different sizes: devices hold different numbers of valid voxels.
    extent = np.array([[[0, 2 + i % 3], [i % 4, 16], [0, 16 - i]] for i in range(6)], np.int32)
    return jax.device_put(Cohort(image, labels, labels, extent))


def compare(network, draw, input_shape, cohort, batch_size, devices):
    optimizer = optax.adam(0.01)
    cases = jax.device_put(CaseSelection(np.arange(6, dtype=np.int32), np.int32(6)))

    def start():
        return initial_state(jax.random.key(0), network, optimizer, (batch_size, *input_shape))

    def train(run, state, cohort, cases):
        losses, drawn = [], []
        for _ in range(STEPS):
            state, metrics = run(state, cohort, cases)
            losses.append(np.asarray(metrics["loss"]).ravel()[0].item())
            drawn.append(np.asarray(metrics["case"]).reshape(-1, metrics["case"].shape[-1])[0, :batch_size].tolist())
        return state, losses, drawn

    one = compile_steps(network, optimizer, draw, 1)
    state, losses, drawn = train(one, start(), cohort, cases)
    many = compile_steps(network, optimizer, draw, 1, devices)
    replicated = [replicate(tree, devices) for tree in (start(), cohort, cases)]
    many_state, many_losses, many_drawn = train(many, *replicated)

    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(many_state.params)]
    expected = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
    off = sum((np.abs(leaf[0] - right) > 1e-4).sum() for leaf, right in zip(leaves, expected, strict=True))
    return {
        "devices": len(devices),
        "losses": many_losses,
        "one_device_losses": losses,
        "same_cases": many_drawn == drawn,
        "same_on_all_devices": all((leaf == leaf[:1]).all() for leaf in leaves),
        "share_of_parameters_off_by_more_than_1e-4": float(off / sum(leaf.size for leaf in expected)),
    }


def fit_one(network, draw, input_shape, cohort):
    """The whole training loop on eight devices, from its last checkpoint as well: True if it gets to its end."""
    optimizer = optax.adam(0.01)
    devices = jax.local_devices()
    trainer = Trainer(
        network=network,
        optimizer=optimizer,
        batch_shape=(len(devices), *input_shape),
        run_steps=compile_steps(network, optimizer, draw, 1, devices),
        validate=jax.jit(lambda params, cohort, cases: jnp.zeros(4)),
        label_names=EMIDEC.names[1:],
        steps=3,
        steps_per_dispatch=1,
        validate_every=2,
        checkpoint_every=2,
        devices=devices,
    )
    cases = jax.device_put(CaseSelection(np.arange(6, dtype=np.int32), np.int32(6)))
    names = tuple("abcdef")
    with tempfile.TemporaryDirectory() as folder:
        params = fit(trainer, Path(folder) / "whole", cohort, cases, cases, names, 0, "whole")
        shortened = dataclasses.replace(trainer, steps=2, checkpoint_every=1)
        fit(shortened, Path(folder) / "short", cohort, cases, cases, names, 0, "short")
    return all(leaf.ndim >= 1 and bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))


def main():
    cohort = draw_cohort()
    slices = UNet((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)))
    volumes = UNet((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)))
    devices = jax.local_devices()
    results = []
    for batch_sizes, used in (((16, 8), devices), ((7, 7), devices[:4])):
        draws = (
            draw_slices(batch_sizes[0], Augmentation()),
            draw_volumes(batch_sizes[1], Augmentation(), PriorCorruption(), 5),
        )
        for network, draw, shape, batch_size in zip(
            (slices, volumes), draws, ((16, 16, 1), (4, 16, 16, 5)), batch_sizes, strict=True
        ):
            results.append(compare(network, draw, shape, cohort, batch_size, used))
    results[0]["fit"] = fit_one(slices, draw_slices(16, Augmentation()), (16, 16, 1), cohort)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
