"""The training step, written once, and its compiled forms over one device or several.

A cohort lies on the device whole. One dispatch draws, augments and learns from a batch, or from several; the host sees
losses only.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cascade_jax.models.unet import UNet
from cascade_jax.training.accumulation import loss_and_gradient
from cascade_jax.training.batches import Batch, CaseSelection, Draw, share_positions, step_key

DEVICE_AXIS = "devices"
PARALLEL = ("jit", "pmap", "height")  # ways to several devices


@flax.struct.dataclass
class TrainState:
    """Everything a step maps to the next.

    Attributes:
        step: int32 scalar, steps done.
        params: float32 parameters.
        optimizer_state: the optimizer's.
        key: uint32, the data of the run's random key, which is how it is stored; a step's randomness is a function of
            it and of `step` alone.
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
        batch_shape: (batch, *spatial, channel) of the network's inputs.
        params: where to start from; they are copied, since the first step consumes its state. None draws them.
    """

    def initialise(key, params):
        params_key, run_key = jax.random.split(key)
        if params is None:
            params = network.init(params_key, jnp.zeros(batch_shape), deep_supervision=True)["params"]
        else:
            params = jax.tree.map(jnp.copy, params)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), jax.random.key_data(run_key))

    return _run_once(initialise, key, params)


def _run_once(function: Callable, *arguments: Any) -> Any:
    """`function(*arguments)` as one program that is compiled in little time: a CPU's compiler takes a quarter of a
    minute to optimise the random draws of a network's parameters."""
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=options)(*arguments)


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    network: UNet,
    optimizer: optax.GradientTransformation,
    parts: int = 1,
    shares: int = 1,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step: forward, backward, update.

    Under `jax.jit` it runs over several devices by what it is given: the state replicated over a mesh, the batch
    sharded along its first axis, on axes of either type. The loss is that of the whole batch, whatever share of it each
    device holds.

    Under `jax.pmap`, `axis_name` is the mapped axis: every sum of the loss runs over the valid voxels of all its
    devices, so each device holds the loss of the whole batch, and the sum of their gradients is its gradient.

    `parts` and `shares` are those of `loss_and_gradient`: in how many parts each device takes its share of the batch,
    and over how many devices `jax.jit` shards it.

    Returns:
        The next state, and float32 scalars `loss` and `gradient_norm`.
    """

    loss, gradients = loss_and_gradient(network, state.params, batch, parts=parts, shares=shares, axis_name=axis_name)
    updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}
    return state.replace(step=state.step + 1, params=params, optimizer_state=optimizer_state), metrics  # type: ignore[attr-defined]


def mesh_of(devices: Sequence[jax.Device]) -> Mesh:
    """The devices as a mesh of one axis, along which a batch is sharded."""
    # Auto, so that XLA finds the shardings inside the draws: on Explicit axes, JAX's default, each gather and reshape
    # of a sharded batch would have to name that of its result.
    return Mesh(np.array(devices), (DEVICE_AXIS,), axis_types=(AxisType.Auto,))


def replicated_over(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device of a mesh holds whole: state, cohort and cases."""
    return NamedSharding(mesh, PartitionSpec())


@functools.lru_cache(maxsize=16)  # every fold of a stage finds the program of the first on its devices
def compile_steps(
    network: UNet,
    optimizer: optax.GradientTransformation,
    draw: Draw,
    steps_per_dispatch: int,
    mesh: Mesh | None = None,
    batch_size: int | None = None,
    parallel: str = "jit",
    scan: bool | None = None,
    parts: int = 1,
) -> Callable[[TrainState, Any, CaseSelection | None], tuple[TrainState, dict[str, jax.Array]]]:
    """Several training steps as one call.

    Args:
        network: the network.
        optimizer: the optimizer.
        draw: draws a batch.
        steps_per_dispatch: steps in one call.
        mesh: what `mesh_of` returned: each device takes an equal share of the batch, rounded up. State, cohort and
            cases are `replicated_over` it. None runs where they are.
        batch_size: of the global batch; needed with a mesh.
        parallel: "jit", or "pmap" for a program mapped over the devices. Both do the same. "height" gives each device
            a part of every sample's height in the place of whole samples, for those that one device cannot hold: the
            compiler's partitioner exchanges what convolutions need beyond a part's edges.
        scan: whether the steps are one compiled loop; if not, a program of one step is called so many times. None
            scans anywhere but on a CPU.
        parts: how many each device takes its share of the batch in, one after another.

    Returns:
        A function (state, cohort, cases) -> (state, metrics), metrics with one entry for each step: `loss`,
        `gradient_norm` (step,) and `case` (step, batch and surplus). The state passed in is consumed.
    """
    if scan is None:
        scan = jax.default_backend() != "cpu"  # in its while loops a convolution's kernel gradient is 30 times slower
    steps_in_program = steps_per_dispatch if scan else 1
    shares = mesh.size if mesh is not None and parallel == "jit" else 1
    step = functools.partial(train_step, network=network, optimizer=optimizer, parts=parts, shares=shares)

    def run(state, cohort, cases, positions=None, place=lambda batch: batch, axis_name=None):
        def one(state, _):
            batch = place(draw(step_key(state.key, state.step), cohort, cases, positions))
            state, metrics = step(state, batch, axis_name=axis_name)
            return state, metrics | {"case": batch.case}

        if steps_in_program > 1:
            return jax.lax.scan(one, state, None, length=steps_in_program)
        state, metrics = one(state, None)
        return state, jax.tree.map(lambda value: value[None], metrics)

    options = _compiler_options(network, parts)
    if mesh is None:
        program = jax.jit(run, donate_argnums=0, compiler_options=options)
    elif parallel == "jit":
        program = _jitted(run, mesh, batch_size, options)
    elif parallel == "height":
        program = _split_along_height(run, mesh, options)
    else:
        program = _pmapped(run, mesh, batch_size)
    if steps_in_program == steps_per_dispatch:
        return program

    def run_repeatedly(state, cohort, cases):
        history = []
        for _ in range(steps_per_dispatch):
            state, metrics = program(state, cohort, cases)
            history.append(metrics)
        return state, jax.tree.map(lambda *values: jnp.concatenate(values), *history)

    return run_repeatedly


def _compiler_options(network: UNet, parts: int) -> dict[str, str] | None:
    """What keeps a CPU's compiler to the order of the program, where that order saves memory: left alone it does away
    with the barriers early, has every part at once, and computes nothing again."""
    if jax.default_backend() == "cpu" and (parts > 1 or network.rematerialise):
        return {"xla_disable_hlo_passes": "cse_barrier_expander"}
    return None


def _jitted(run: Callable, mesh: Mesh, batch_size: int, compiler_options: dict[str, str] | None) -> Callable:
    """`run` over the global batch, which is sharded along its first axis."""
    sharded, replicated = NamedSharding(mesh, PartitionSpec(DEVICE_AXIS)), replicated_over(mesh)

    def over_the_mesh(state, cohort, cases):
        place = functools.partial(jax.lax.with_sharding_constraint, shardings=sharded)
        positions = place(share_positions(batch_size, mesh.size).ravel())
        return run(state, cohort, cases, positions, place)

    return jax.jit(over_the_mesh, donate_argnums=0, out_shardings=replicated, compiler_options=compiler_options)


def _split_along_height(run: Callable, mesh: Mesh, compiler_options: dict[str, str] | None) -> Callable:
    """`run` over the global batch, each sample of which is sharded along its height."""

    def part(array, axis):
        names: list[str | None] = [None] * array.ndim
        names[axis] = DEVICE_AXIS
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, PartitionSpec(*names)))

    def place(batch):
        return batch.replace(inputs=part(batch.inputs, -3), labels=part(batch.labels, -2), valid=part(batch.valid, -2))

    program, whole = functools.partial(run, place=place), replicated_over(mesh)
    return jax.jit(program, donate_argnums=0, out_shardings=whole, compiler_options=compiler_options)


def _pmapped(run: Callable, mesh: Mesh, batch_size: int) -> Callable:
    """`run` over each device's share, with sums over all devices in the loss."""
    positions = share_positions(batch_size, mesh.size)
    positions = jax.device_put(positions, NamedSharding(mesh, PartitionSpec(DEVICE_AXIS)))

    def on_each_device(state, cohort, cases, positions):
        return run(state, cohort, cases, positions, axis_name=DEVICE_AXIS)

    program = jax.pmap(
        on_each_device,
        DEVICE_AXIS,
        in_axes=(None, None, None, 0),
        out_axes=(None, {"loss": None, "gradient_norm": None, "case": 1}),
        devices=mesh.devices.tolist(),
        donate_argnums=0,
    )

    def over_all_devices(state, cohort, cases):
        state, metrics = program(state, cohort, cases, positions)
        return state, metrics | {"case": metrics["case"].reshape(len(metrics["loss"]), -1)}

    return over_all_devices
