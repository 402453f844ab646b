"""What a training step holds on each device, by XLA's own analysis of the compiled program, before anything runs."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from ml_collections import ConfigDict

from cascade_jax.cascade import STAGES, build_networks, compute_dtype, input_shapes
from cascade_jax.models.unet import params_like
from cascade_jax.plan import Plan
from cascade_jax.training import draws, pretraining
from cascade_jax.training.batches import CaseSelection, Cohort
from cascade_jax.training.loop import devices_for, stage_plan, stage_steps
from cascade_jax.training.step import TrainState, mesh_of, replicated_over
from cascade_jax.training.streaming import is_streamed


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes on each device.

    Attributes:
        parameters: of the network.
        optimizer: of the optimizer's state.
        cohort: of what batches are drawn from.
        temporaries: of what the step computes: batch, feature maps, gradients.
        program: of the program's code, where it lies on the device.
    """

    parameters: int
    optimizer: int
    cohort: int
    temporaries: int
    program: int

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self))


def step_memory(config: ConfigDict, plan: Plan, stage: int, cohort_shape: tuple[int, ...] | None) -> StepMemory:
    """Compiles a stage's training step as `loop.fit` does, for arrays that are not there, and asks XLA.

    With `config.parallel` "pmap" it is the sharded step, which does the same.

    Args:
        config: of the run.
        plan: of the run.
        stage: 0 or 1.
        cohort_shape: (case, depth, height, width) of the prepared cohort; None where phantoms are drawn.
    """
    config = config.copy_and_resolve_references()
    config.parallel = "jit"
    if jax.default_backend() == "cpu":
        config[STAGES[stage]].steps_per_dispatch = 1  # which is the program that a CPU runs
    networks = build_networks(plan, compute_dtype(config.compute_dtype))
    of_kind = pretraining if config.kind == "pretraining" else draws
    mesh = mesh_of(devices_for(plan, stage))
    draw = of_kind.make_draw(config, plan, networks, stage)
    optimizer, run_steps = stage_steps(config, plan, stage, networks[stage], draw, mesh)

    params = params_like(networks[stage], input_shapes(plan)[stage])
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    state = TrainState(_array((), jnp.int32), params, jax.eval_shape(optimizer.init, params), key)
    drawn_from, cases = _drawn_from(config, plan, networks, stage, cohort_shape)
    arguments = _placed((state, drawn_from, cases), replicated_over(mesh))
    # It is not run, and how a CPU's code is optimised, which takes longest, changes nothing of what it holds.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    program: Any = run_steps
    analysis = program.lower(*arguments).compile(compiler_options=options).memory_analysis()
    held = analysis.argument_size_in_bytes, analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    parameters, optimizer_state = _bytes(params), _bytes(state.optimizer_state)
    return StepMemory(
        parameters,
        optimizer_state,
        held[0] - parameters - optimizer_state,
        analysis.temp_size_in_bytes + max(held[1], 0),
        analysis.generated_code_size_in_bytes,
    )


def _drawn_from(config: ConfigDict, plan: Plan, networks: Any, stage: int, shape: tuple[int, ...] | None) -> Any:
    """The shapes of what a stage's batches are drawn from, and of a fold's selection of cases."""
    slice_params = None if stage == 0 else params_like(networks[0], input_shapes(plan)[0])
    if shape is None:
        return slice_params, None
    drawn = None
    if is_streamed(shape, config.data.memory_gb):  # a step gets what it draws alone
        batch_size = stage_plan(plan, stage).batch_size
        shape = (batch_size, shape[1] if stage else 1, *shape[2:])
        drawn = _array((batch_size,), jnp.int32)
    boxes, labels = _array((shape[0], 3, 2), jnp.int32), _array(shape, jnp.uint8)
    cohort = Cohort(_array(shape, jnp.float32), labels, labels if stage else None, boxes, boxes, drawn)
    cases = CaseSelection(_array(shape[:1], jnp.int32), _array((), jnp.int32))
    return ((cohort, slice_params) if config.phantom_share > 0 else cohort), cases


def _array(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _placed(tree: Any, sharding: Sharding) -> Any:
    return jax.tree.map(lambda one: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=sharding), tree)


def _bytes(tree: Any) -> int:
    return sum(math.prod(one.shape) * np.dtype(one.dtype).itemsize for one in jax.tree.leaves(tree))
