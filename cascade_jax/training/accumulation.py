"""The loss of a batch and its gradient, with the batch taken whole or in parts, one after another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cascade_jax.errors import ConfigError
from cascade_jax.losses import deep_supervision_loss_of, deep_supervision_sums
from cascade_jax.models.unet import UNet
from cascade_jax.training.batches import Batch


def check_parts(setting: str, parts: int, batch_size: int, devices: int) -> None:
    """Raises ConfigError, naming the setting, where a device's share of the batch cannot be taken in so many parts."""
    share = -(-batch_size // devices)
    if parts < 1 or share % parts:
        possible = ", ".join(str(number) for number in range(1, share + 1) if share % number == 0)
        of_device = f"{share}, each of {devices} devices' share of " if devices > 1 else ""
        raise ConfigError(
            f"{setting} is {parts}, which does not divide {of_device}the batch of {batch_size}; possible: {possible}"
        )


def loss_and_gradient(
    network: UNet, params: Any, batch: Batch, *, parts: int = 1, shares: int = 1, axis_name: str | None = None
) -> tuple[jax.Array, Any]:
    """The loss of the whole batch, and its gradient by the parameters.

    Both are those of the whole batch also where it is taken in parts: a first pass adds up the parts' sums, of which
    the loss is a function (`cascade_jax.losses`); a second adds up their gradients, given the derivatives of the loss
    by those sums. So parts cost one more forward pass, and one part's feature maps are held at a time.

    Args:
        network: the network.
        params: its parameters.
        batch: the batch, or a device's share of it.
        parts: how many; each device's share of the batch is a multiple of it.
        shares: over how many devices the batch is sharded along its first axis, each of which takes its own share in
            parts.
        axis_name: under `pmap`, the mapped axis: the sums run over its devices.

    Returns:
        A float32 scalar, and what `params` is.
    """

    def sums_of(params, part):
        logits = network.apply({"params": params}, part.inputs, deep_supervision=True)
        return deep_supervision_sums(logits, part.labels, part.valid)

    def over_devices(values):
        return values if axis_name is None else jax.lax.psum(values, axis_name)

    def gradient_of(part, by_sums):
        _, pull_back = jax.vjp(lambda params: sums_of(params, part), params)
        return pull_back(by_sums)[0]

    loss_of_sums = jax.value_and_grad(deep_supervision_loss_of)
    if parts == 1:
        sums, pull_back = jax.vjp(lambda params: sums_of(params, batch), params)
        loss, by_sums = loss_of_sums(over_devices(sums))
        return loss, over_devices(pull_back(by_sums)[0])
    split = jax.tree.map(lambda array: _split(array, parts, shares), batch)
    loss, by_sums = loss_of_sums(over_devices(_add_up(lambda part: sums_of(params, part), split)))
    # In a CPU's while loops a convolution's kernel gradient is 30 times slower.
    unroll = jax.default_backend() == "cpu"
    return loss, over_devices(_add_up(lambda part: gradient_of(part, by_sums), split, unroll=unroll))


def _split(array: jax.Array, parts: int, shares: int) -> jax.Array:
    """(batch, ...) -> (part, batch / parts, ...); each part has as much of every device's share."""
    array = array.reshape(shares, parts, -1, *array.shape[1:]).swapaxes(0, 1)
    return array.reshape(parts, -1, *array.shape[3:])


def _add_up(function: Callable[[Batch], Any], parts: Batch, *, unroll: bool = False) -> Any:
    """The sum of the function's results for each part, one after another."""
    first = jax.tree.map(lambda array: array[0], parts)
    zeros = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), jax.eval_shape(function, first))

    def add(total, part):
        # So that no part is begun before the one in front of it has ended.
        total, part = jax.lax.optimization_barrier((total, part))
        return jax.tree.map(jnp.add, total, function(part)), None

    return jax.lax.scan(add, zeros, parts, unroll=unroll)[0]
