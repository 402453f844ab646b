"""Trains both stages on eight devices and on one, with the same global batch, and prints how far they are apart.

Run by test_training.py in a process of its own, since the number of devices is fixed when JAX starts.
"""

import json

import jax
import numpy as np
import optax

from cascade_jax import training
from cascade_jax.data.augment import Augmentation, PriorCorruption
from cascade_jax.models import UNet

STEPS = 3


def draw_cohort():
    random = np.random.default_rng(0)
    shape = (4, 16, 16)
    labels = random.integers(0, 5, (6, *shape)).astype(np.uint8)
    image = (labels + random.normal(size=labels.shape)).astype(np.float32)
    # Padding of different sizes: devices hold different numbers of valid voxels.
    extent = np.array([[[0, 2 + i % 3], [i % 4, 16], [0, 16 - i]] for i in range(6)], np.int32)
    return jax.device_put(training.Cohort(image, labels, labels, extent))


def compare(network, draw, input_shape, cohort):
    optimizer = optax.adam(0.01)
    cases = jax.device_put(training.CaseSelection(np.arange(6, dtype=np.int32), np.int32(6)))
    devices = jax.local_devices()

    def start():
        return training.initial_state(jax.random.key(0), network, optimizer, input_shape)

    one = training.compile_steps(network, optimizer, draw, STEPS)
    state, metrics = one(start(), cohort, cases)
    many = training.compile_steps(network, optimizer, draw, STEPS, devices)
    replicated = [training.replicate(tree, devices) for tree in (start(), cohort, cases)]
    many_state, many_metrics = many(*replicated)

    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(many_state.params)]
    expected = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
    off = sum((np.abs(leaf[0] - right) > 1e-4).sum() for leaf, right in zip(leaves, expected, strict=True))
    return {
        "devices": len(devices),
        "losses": np.asarray(many_metrics["loss"])[0].tolist(),
        "one_device_losses": np.asarray(metrics["loss"]).tolist(),
        "same_cases": bool((np.asarray(many_metrics["case"])[0] == np.asarray(metrics["case"])).all()),
        "same_on_all_devices": all((leaf == leaf[:1]).all() for leaf in leaves),
        "share_of_parameters_off_by_more_than_1e-4": float(off / sum(leaf.size for leaf in expected)),
    }


def main():
    cohort = draw_cohort()
    slices = UNet((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)))
    volumes = UNet((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)))
    results = [
        compare(slices, training.draw_slices(16, Augmentation()), (16, 16, 1), cohort),
        compare(volumes, training.draw_volumes(8, Augmentation(), PriorCorruption(), 5), (4, 16, 16, 5), cohort),
    ]
    print(json.dumps(results))


if __name__ == "__main__":
    main()
