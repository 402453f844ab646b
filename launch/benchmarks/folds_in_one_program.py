"""Whether several folds train faster on one device in one program, mapped, than one after another.

    python -m launch.benchmarks.folds_in_one_program [--folds=5] [--networks=tiny,laptop] [--turns=5]

Both take turns in one process, on batches that lie on the device. Ratios below 1 say that one program is faster. The
processor's time says the same on a machine that other programs use too; it counts for a CPU alone.
"""

import functools
import statistics
import time
from collections.abc import Callable

from absl import flags

from launch import command

_FOLDS = flags.DEFINE_integer("folds", 5, "How many folds.")
_NETWORKS = flags.DEFINE_list("networks", ["tiny", "laptop"], "tiny (as in the tests), laptop (emidec:laptop's).")
_TURNS = flags.DEFINE_integer("turns", 5, "How often each is timed.")


def main() -> None:
    command.configure_jax(hold_memory=True)
    import jax

    print(f"{_FOLDS.value} folds on one {jax.devices()[0].device_kind}\n")
    print("One program over one after another, the median of the turns and their range:\n")
    print("| step | time | processor's time |\n|---|---|---|")
    for name in _NETWORKS.value:
        for stage in (0, 1):
            columns = compare(*_steps(name, stage, _FOLDS.value), _TURNS.value)
            found = (f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" for ratios in columns)
            print(f"| {name}, stage {stage + 1} | {' | '.join(found)} |", flush=True)


def compare(together: Callable[[], None], apart: Callable[[], None], turns: int) -> tuple[list[float], list[float]]:
    """The ratio of the times of two ways of one work, turn by turn: of the clock, and of the processor."""

    def clocks():
        return time.perf_counter(), time.process_time()

    def seconds(work):
        before = clocks()
        work()
        return [after - start for after, start in zip(clocks(), before, strict=True)]

    together(), apart()  # compiles
    pairs = [(seconds(together), seconds(apart)) for _ in range(turns)]
    return tuple([one[clock] / other[clock] for one, other in pairs] for clock in (0, 1))


def _steps(name: str, stage: int, folds: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """One training step of every fold: in one program, and one after another."""
    import jax
    import jax.numpy as jnp

    from cascade_jax.bundle import read_model
    from cascade_jax.cascade import build_networks, compute_dtype, input_shapes
    from cascade_jax.plan import Plan, StagePlan
    from cascade_jax.training.batches import Batch
    from cascade_jax.training.optimizers import make_optimizer
    from cascade_jax.training.step import initial_state, train_step
    from launch.configs import emidec

    if name == "laptop":
        config, trained = emidec.get_config("laptop").plan, read_model("phantom")["plan"]
        parts = [
            StagePlan(part.features, part.kernel_sizes, part.strides, batch_size)
            for part, batch_size in (
                (trained.slices, config.slices.batch_size),
                (trained.volumes, config.volumes.batch_size),
            )
        ]
        plan = Plan(trained.spacing, config.shape, *parts, window=config.window)
    else:
        slices = StagePlan((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)), 4)
        volumes = StagePlan((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)), 2)
        plan = Plan((10.0, 4.0, 4.0), (8, 24, 24), slices, volumes)
    network = build_networks(plan, compute_dtype("auto"))[stage]
    batch_size, shape = (plan.slices, plan.volumes)[stage].batch_size, input_shapes(plan)[stage]
    optimizer = make_optimizer("adam", "polynomial", 0.01, 1000, 12.0)
    step = functools.partial(train_step, network=network, optimizer=optimizer)

    def batch_of(fold):
        keys = jax.random.split(jax.random.key(fold), 2)
        inputs = jax.random.normal(keys[0], (batch_size, *shape))
        labels = jax.random.randint(keys[1], inputs.shape[:-1], 0, 5).astype(jnp.uint8)
        return Batch(inputs, labels, jnp.ones(labels.shape, bool), jnp.zeros(batch_size, jnp.int32))

    states = [initial_state(jax.random.key(fold), network, optimizer, (batch_size, *shape)) for fold in range(folds)]
    batches = [batch_of(fold) for fold in range(folds)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *zip(states, batches, strict=True))
    mapped, alone = jax.jit(jax.vmap(step)), jax.jit(step)

    def together():
        jax.block_until_ready(mapped(*stacked))

    def apart():
        for state, batch in zip(states, batches, strict=True):
            jax.block_until_ready(alone(state, batch))

    return together, apart


if __name__ == "__main__":
    command.run(main, required=())
