"""The memory that stage two needs on each device when a volume's height is split over several.

    python -m launch.benchmarks.sharded_volumes [--shape=10,256,224] [--batch_size=2] [--most=8]

Programs are compiled and not run; the numbers are XLA's own. Where JAX has a CPU only, that stands in for the devices.
"""

import functools
import os

from absl import flags

from launch import command

_SHAPE = flags.DEFINE_list("shape", ["10", "256", "224"], "Depth, height and width of a volume, in voxels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 2, "Volumes in a training step.")
_MOST = flags.DEFINE_integer("most", 8, "Devices to go up to, in powers of two.")


def main() -> None:
    # Before JAX is asked for its devices; it counts for CPUs alone.
    forced = f"--xla_force_host_platform_device_count={_MOST.value}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {forced}".strip()
    import jax

    from cascade_jax.plan import make_plan

    plan = make_plan([tuple(map(int, _SHAPE.value))], [(10.0, 1.43, 1.43)])
    print(f"volumes of {plan.volume_shape}, features {plan.volumes.features}, on {jax.devices()[0].device_kind}\n")
    print("| devices | prediction of a volume, MB | training step, MB | of it the state, MB |\n|---|---|---|---|")
    count = 1
    while count <= min(_MOST.value, len(jax.devices())):
        predicting, training, state = (size / 1e6 for size in memory(plan, jax.devices()[:count], _BATCH_SIZE.value))
        print(f"| {count} | {predicting:.0f} | {training:.0f} | {state:.0f} |", flush=True)
        count *= 2


def memory(plan, devices, batch_size) -> tuple[int, int, int]:
    """Bytes on each device: of one volume's prediction by one fold, of a training step, and of that step's state."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from cascade_jax.cascade import build_networks, compute_dtype, input_shapes
    from cascade_jax.models.graph import segment_volume
    from cascade_jax.models.splitting import HEIGHT_AXIS, height_mesh
    from cascade_jax.models.unet import params_like
    from cascade_jax.training.batches import Batch
    from cascade_jax.training.optimizers import make_optimizer
    from cascade_jax.training.step import TrainState, train_step

    network, shape = build_networks(plan, compute_dtype("auto"))[1], input_shapes(plan)[1]
    mesh = height_mesh(devices, shape[1])
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, HEIGHT_AXIS))
    split_batch = NamedSharding(mesh, PartitionSpec(None, None, HEIGHT_AXIS))

    def like(shape, dtype, sharding):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    def total(program, *arguments) -> int:
        # The compiler of a CPU is spared its last part, which does not decide what lies in memory.
        options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        about = program.lower(*arguments).compile(compiler_options=options).memory_analysis()
        sizes = about.argument_size_in_bytes + about.output_size_in_bytes + about.temp_size_in_bytes
        return sizes - about.alias_size_in_bytes

    params = jax.tree.map(lambda leaf: like(leaf.shape, leaf.dtype, everywhere), params_like(network, shape))
    predict = jax.jit(functools.partial(segment_volume, network), out_shardings=split)
    predicting = total(predict, params, like(shape[:3], jnp.float32, split), like(shape[:3], jnp.uint8, split))

    optimizer = make_optimizer("adam", "polynomial", 0.01, 250_000, 12.0)
    state = TrainState(
        like((), jnp.int32, everywhere),
        params,
        jax.tree.map(lambda leaf: like(leaf.shape, leaf.dtype, everywhere), jax.eval_shape(optimizer.init, params)),
        like((2,), jnp.uint32, everywhere),
    )
    batch = Batch(
        like((batch_size, *shape), jnp.float32, split_batch),
        like((batch_size, *shape[:3]), jnp.uint8, split_batch),
        like((batch_size, *shape[:3]), jnp.bool_, split_batch),
        like((batch_size,), jnp.int32, everywhere),
    )
    step = jax.jit(
        functools.partial(train_step, network=network, optimizer=optimizer),
        donate_argnums=0,
        out_shardings=everywhere,
    )
    of_state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return predicting, total(step, state, batch), of_state


if __name__ == "__main__":
    command.run(main, required=())
