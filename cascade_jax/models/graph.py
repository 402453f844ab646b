"""The inference graph: slices -> coarse labels -> volume -> labels, for every fold at once, and the folds' vote."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cascade_jax.models.unet import UNet
from cascade_jax.models.window import cut_window, find_window, paste_window

FOLD_AXIS, MIRROR_AXIS = "fold", "mirror image"
MIRROR_IMAGES = tuple(itertools.product((False, True), repeat=2))  # whether rows, and columns, are mirrored


class Vote(NamedTuple):
    """What the folds say about a volume.

    Attributes:
        labels: uint8 (depth, height, width), the majority's label; a tie goes to the label with the higher mean
            probability.
        counts: uint8 (depth, height, width, class), how many folds voted for each label.
        probabilities: float32 (depth, height, width, class), the mean over the folds.
        fold_priors: uint8 (fold, depth, height, width), each fold's stage-one labels.
        fold_labels: uint8 (fold, depth, height, width), each fold's final labels.
        fold_sums: float32 (fold, label, class), the sum of a fold's probability of each class over the voxels that it
            has given each label.
        fold_highest: float32 (fold, class), each fold's highest probability of each class.
    """

    labels: jax.Array
    counts: jax.Array
    probabilities: jax.Array
    fold_priors: jax.Array
    fold_labels: jax.Array
    fold_sums: jax.Array
    fold_highest: jax.Array


def most_probable(probabilities: jax.Array) -> jax.Array:
    """uint8 labels (...) of probabilities (..., class)."""
    return jnp.argmax(probabilities, axis=-1).astype(jnp.uint8)


def one_hot_prior(labels: jax.Array, num_classes: int) -> jax.Array:
    """The prior of stage two: a float32 channel for each label but background, appended as the last axis."""
    return jax.nn.one_hot(labels.astype(jnp.int32) - 1, num_classes - 1)


def _averaged_over_mirror_images(function: Callable, inputs: jax.Array, mirror: bool) -> jax.Array:
    """What `function` makes of the inputs, averaged over all combinations of in-plane mirroring if `mirror` is set.

    The mirror images run one after another, in one loop: they cost time, not memory, and are compiled once. Under a
    mesh with `MIRROR_AXIS`, each device along it does its share of them.

    Args:
        function: (..., height, width, channel) -> (..., height, width, class).
        inputs: (..., height, width, channel).
        mirror: whether to mirror.
    """
    if not mirror:
        return function(inputs)

    def of_mirror_image(mirrored):
        def flip(array):
            for axis, wanted in zip((-3, -2), mirrored, strict=True):
                array = jnp.where(wanted, jnp.flip(array, axis), array)
            return array

        return flip(function(flip(inputs)))

    images, spread = jnp.array(MIRROR_IMAGES), MIRROR_AXIS in jax.sharding.get_abstract_mesh().manual_axes
    if spread:
        share = len(images) // jax.lax.axis_size(MIRROR_AXIS)
        images = jax.lax.dynamic_slice_in_dim(images, jax.lax.axis_index(MIRROR_AXIS) * share, share)
    mean = _mean_of_first_axis(jax.lax.map(of_mirror_image, images))
    return jax.lax.pmean(mean, MIRROR_AXIS) if spread else mean


def _mean_of_first_axis(arrays: jax.Array) -> jax.Array:
    """Array by array: XLA's mean over a first axis takes a CPU ten times as long."""
    return sum(arrays[1:], arrays[0]) / len(arrays)


def _probabilities(network: UNet, params: Any, inputs: jax.Array, mirror: bool) -> jax.Array:
    """Softmax of the logits, averaged over mirror images if `mirror` is set."""
    return _averaged_over_mirror_images(
        lambda inputs: jax.nn.softmax(network.apply({"params": params}, inputs)), inputs, mirror
    )


def segment_slices(network: UNet, params: Any, image: jax.Array, *, mirror: bool = False) -> jax.Array:
    """Stage one of one fold: float32 image (depth, height, width) -> probabilities (depth, height, width, class)."""
    return _probabilities(network, params, image[..., None], mirror)


def predict_prior(
    network: UNet,
    params: Any,
    image: jax.Array,
    valid: jax.Array,
    *,
    mirror: bool = False,
    window: tuple[int, int] | None = None,
) -> jax.Array:
    """Stage one's labels of one fold, uint8 (depth, height, width); 0 where there is padding.

    A network with instance norm is at its best on as much of the body as it was trained on. With a window (height,
    width) smaller than the plane it looks twice: at all, where it finds the heart, and at the window around that, whose
    labels are returned.
    """

    def labels_of(image, valid):
        return jnp.where(valid, most_probable(segment_slices(network, params, image, mirror=mirror)), 0)

    labels = labels_of(image, valid)
    if window is None or window == image.shape[1:]:
        return labels
    start = find_window(labels, valid, window)
    return paste_window(
        labels_of(*(cut_window(volume, start, window) for volume in (image, valid))), start, jnp.zeros_like(labels)
    )


def segment_volume(
    network: UNet, params: Any, image: jax.Array, prior: jax.Array, *, mirror: bool = False
) -> jax.Array:
    """Stage two of one fold.

    Args:
        network: the 3D U-Net.
        params: its parameters.
        image: float32 (depth, height, width).
        prior: integer labels (depth, height, width), stage one's result.
        mirror: average over in-plane mirror images.

    Returns:
        float32 probabilities (depth, height, width, class).
    """

    inputs = jnp.concatenate([image[..., None], one_hot_prior(prior, network.num_classes)], axis=-1)
    return _probabilities(network, params, inputs[None], mirror)[0]


def count_votes(fold_labels: jax.Array, probabilities: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Majority vote.

    Args:
        fold_labels: uint8 (fold, depth, height, width).
        probabilities: float32 (depth, height, width, class), the folds' mean: decides ties.

    Returns:
        uint8 labels (depth, height, width) and uint8 vote counts (depth, height, width, class).
    """
    num_classes = probabilities.shape[-1]
    counts = jax.nn.one_hot(fold_labels, num_classes, dtype=jnp.uint8).sum(0, dtype=jnp.uint8)
    leading = counts == counts.max(axis=-1, keepdims=True)
    return most_probable(jnp.where(leading, probabilities, -1.0)), counts


def segment_fold(
    networks: tuple[UNet, UNet],
    params: tuple[Any, Any],
    image: jax.Array,
    valid: jax.Array,
    *,
    mirror: bool = False,
    windows: tuple[tuple[int, int], tuple[int, int]] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Both stages of one fold.

    Args:
        networks, image, valid, mirror, windows: as for `segment`.
        params: the parameters of both networks.

    Returns:
        uint8 (depth, height, width), stage one's labels, and float32 (depth, height, width, class), the probabilities.
    """
    seen_first, window = windows or (None, None)
    prior = predict_prior(networks[0], params[0], image, valid, mirror=mirror, window=seen_first)
    background = jax.nn.one_hot(0, networks[1].num_classes)
    if window is None:
        probabilities = segment_volume(networks[1], params[1], image, prior, mirror=mirror)
    else:
        start = find_window(prior, valid, window)
        seen = (cut_window(volume, start, window) for volume in (image, prior))
        around = jnp.broadcast_to(background, (*image.shape, *background.shape))
        probabilities = paste_window(segment_volume(networks[1], params[1], *seen, mirror=mirror), start, around)
    return prior, jnp.where(valid[..., None], probabilities, background)


def vote_of_folds(fold_priors: jax.Array, fold_probabilities: jax.Array) -> Vote:
    """The vote from what `segment_fold` returns for every fold, with the folds along the arrays' first axis."""
    fold_labels = most_probable(fold_probabilities)
    probabilities = _mean_of_first_axis(fold_probabilities)
    labels, counts = count_votes(fold_labels, probabilities)
    sums, highest = sums_over_labels(fold_labels, fold_probabilities), fold_probabilities.max(axis=(1, 2, 3))
    return Vote(labels, counts, probabilities, fold_priors, fold_labels, sums, highest)


def sums_over_labels(fold_labels: jax.Array, fold_probabilities: jax.Array) -> jax.Array:
    """The probability of each class summed over the voxels of each label, of every fold.

    Args:
        fold_labels: uint8 (fold, depth, height, width).
        fold_probabilities: float32 (fold, depth, height, width, class).

    Returns:
        float32 (fold, label, class).
    """
    one_hot = jax.nn.one_hot(fold_labels, fold_probabilities.shape[-1], dtype=fold_probabilities.dtype)
    return jnp.einsum("fdhwl,fdhwc->flc", one_hot, fold_probabilities, precision=jax.lax.Precision.HIGHEST)


def segment(
    networks: tuple[UNet, UNet],
    params: tuple[Any, Any],
    image: jax.Array,
    valid: jax.Array,
    *,
    mirror: bool = False,
    windows: tuple[tuple[int, int], tuple[int, int]] | None = None,
    mesh: Mesh | None = None,
    folds: int | None = None,
) -> Vote:
    """The whole method on one preprocessed volume, as one pure function: jit it whole.

    Args:
        networks: the 2D and the 3D U-Net.
        params: the parameters of both, each leaf with the folds along its first axis.
        image: float32 (depth, height, width), preprocessed.
        valid: bool, same shape; the rest is padding. Stage two sees no prior there, as in its training, and all labels
            there are background.
        mirror: average each network's probabilities over in-plane mirror images.
        windows: (height, width) of what each stage sees around the heart that stage one has found (`find_window`); all
            else is background. Stage one finds it in the whole plane and looks again. None shows both the whole plane.
        mesh: devices along `FOLD_AXIS` and `MIRROR_AXIS`, over which the folds and the mirror images of each are
            spread; None computes them all on one.
        folds: how many of the parameters' folds vote, those after them being there to give each device of the mesh as
            many (see `spread_folds`); None is all.

    Returns:
        The folds' vote.
    """

    def of_folds(params, image, valid):
        def of_fold(params):
            return segment_fold(networks, params, image, valid, mirror=mirror, windows=windows)

        if len(jax.tree.leaves(params)[0]) == 1:  # nothing to map, and less to trace
            return jax.tree.map(lambda leaf: leaf[None], of_fold(jax.tree.map(lambda leaf: leaf[0], params)))
        # On a CPU nothing is gained by doing all at once but the memory of all, and much is lost: convolutions with a
        # kernel for each fold are up to twenty times slower there than one after another.
        one_by_one, mapped = functools.partial(jax.lax.map, of_fold), jax.vmap(of_fold)
        return jax.lax.platform_dependent(params, cpu=one_by_one, default=mapped)

    if mesh is not None:
        of_folds = jax.shard_map(
            of_folds,
            mesh=mesh,
            in_specs=(PartitionSpec(FOLD_AXIS), PartitionSpec(), PartitionSpec()),
            out_specs=PartitionSpec(FOLD_AXIS),
        )
    return vote_of_folds(*jax.tree.map(lambda leaf: leaf[:folds], of_folds(params, image, valid)))


def spread_folds(params: Any, devices: np.ndarray) -> tuple[Any, Mesh]:
    """An ensemble's parameters on several devices, with as many folds on each.

    Where the folds cannot be shared out evenly, the first ones are there twice.

    Args:
        params: each leaf with the folds along its first axis.
        devices: JAX's, (folds, mirror images): over as many the folds are spread, and the mirror images of each. The
            number of mirror images is a multiple of the second.

    Returns:
        The parameters, and the mesh that `segment` takes.
    """
    folds = len(jax.tree.leaves(params)[0])
    mesh = Mesh(devices, (FOLD_AXIS, MIRROR_AXIS))
    index = np.arange(-(-folds // len(devices)) * len(devices)) % folds
    sharding = NamedSharding(mesh, PartitionSpec(FOLD_AXIS))
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)[index], sharding), params), mesh
