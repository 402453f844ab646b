"""The training step, written once for one device, and its compiled forms for one and for several.

A cohort lies on the device whole. One dispatch draws, augments and learns from several batches; the host sees losses
only.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from cascade_jax.cpu import compilation, working_memory
from cascade_jax.losses import deep_supervision_loss
from cascade_jax.models.unet import UNet
from cascade_jax.training.batches import Batch, CaseSelection, Cohort, Draw

DEVICE_AXIS = "devices"


@flax.struct.dataclass
class TrainState:
    """Everything a step maps to the next.

    Attributes:
        step: int32 scalar, steps done.
        params: float32 parameters.
        optimizer_state: the optimizer's.
        key: the run's random key; a step's randomness is a function of it and of `step` alone.
    """

    step: jax.Array
    params: Any
    optimizer_state: Any
    key: jax.Array


def initial_state(
    key: jax.Array,
    network: UNet,
    optimizer: optax.GradientTransformation,
    batch_shape: Sequence[int],
    params: Any | None = None,
) -> TrainState:
    """A state at step 0.

    Args:
        key: random key, for the parameters and for the run.
        network: the network.
        optimizer: the optimizer.
        batch_shape: (batch, *spatial, channel). With that of the steps to come, these find the network's convolutions
            traced already.
        params: where to start from; they are copied, since the first step consumes its state. None draws them.
    """

    def initialise(key, params):
        params_key, run_key = jax.random.split(key)
        if params is None:
            params = network.init(params_key, jnp.zeros(batch_shape), deep_supervision=True)["params"]
        else:
            params = jax.tree.map(jnp.copy, params)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), run_key)

    return compilation.run_once(initialise, key, params)


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    network: UNet,
    optimizer: optax.GradientTransformation,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step: forward, backward, update.

    Under `pmap` every sum of the loss runs over the valid voxels of all devices of `axis_name`, so each device holds
    the loss of the global batch and the mean of their gradients is its gradient, whatever share of it each one holds.

    Returns:
        The next state, and float32 scalars `loss` and `gradient_norm`.
    """

    def loss_of(params):
        logits = network.apply({"params": params}, batch.inputs, deep_supervision=True)
        return deep_supervision_loss(logits, batch.labels, batch.valid, axis_name=axis_name)

    loss, gradients = jax.value_and_grad(loss_of)(state.params)
    if axis_name is not None:
        gradients = jax.lax.pmean(gradients, axis_name)
    updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}
    return state.replace(step=state.step + 1, params=params, optimizer_state=optimizer_state), metrics


def compile_steps(
    network: UNet,
    optimizer: optax.GradientTransformation,
    draw: Draw,
    steps_per_dispatch: int,
    devices: Sequence[jax.Device] | None = None,
    scan: bool | None = None,
) -> Callable[[TrainState, Cohort, CaseSelection], tuple[TrainState, dict[str, jax.Array]]]:
    """Several training steps as one call.

    Args:
        network: the network.
        optimizer: the optimizer.
        draw: draws a batch.
        steps_per_dispatch: steps in one call.
        devices: with more than one, the program is `pmap`ped over them, and state, cohort and cases are those that
            `replicate` made. None means one device.
        scan: whether the steps are one compiled loop; if not, a program of one step is called so many times. None
            scans anywhere but on a CPU: in its while loops a convolution's kernel gradient runs over 30 times slower.

    Returns:
        A function (state, cohort, cases) -> (state, metrics), metrics with one entry for each step: `loss`,
        `gradient_norm` (step,) and `case` (step, batch and surplus), behind an axis of devices if there are several.
        The state passed in is consumed.
    """
    parallel = devices is not None and len(devices) > 1
    axis_name = DEVICE_AXIS if parallel else None
    scan = jax.default_backend() != "cpu" if scan is None else scan
    steps_in_program = steps_per_dispatch if scan else 1

    def run(state, cohort, cases):
        def one(state, _):
            batch = draw(jax.random.fold_in(state.key, state.step), cohort, cases, axis_name)
            case = batch.case if axis_name is None else jax.lax.all_gather(batch.case, axis_name, tiled=True)
            state, metrics = train_step(state, batch, network=network, optimizer=optimizer, axis_name=axis_name)
            return state, metrics | {"case": case}

        if steps_in_program > 1:
            return jax.lax.scan(one, state, None, length=steps_in_program)
        state, metrics = one(state, None)
        return state, jax.tree.map(lambda value: value[None], metrics)

    if parallel:
        program = jax.pmap(run, axis_name=axis_name, devices=devices, donate_argnums=0)
    else:
        program = working_memory.reusing_compiled(compilation.jit(run, donate_argnums=0))
    if steps_in_program == steps_per_dispatch:
        return program

    def run_repeatedly(state, cohort, cases):
        history = []
        for _ in range(steps_per_dispatch):
            state, metrics = program(state, cohort, cases)
            history.append(metrics)
        step_axis = 1 if parallel else 0
        return state, jax.tree.map(lambda *values: jnp.concatenate(values, axis=step_axis), *history)

    return run_repeatedly


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A copy of every array on each device, along a new first axis, as `pmap` takes it."""
    index = jnp.arange(len(devices))  # pmap wants one argument that is mapped
    return jax.pmap(lambda _, tree: tree, in_axes=(0, None), devices=devices)(index, tree)


def from_first_device(tree: Any) -> Any:
    """One of the identical copies that `replicate` made."""
    return jax.tree.map(lambda leaf: jnp.squeeze(leaf.addressable_shards[0].data, axis=0), tree)
