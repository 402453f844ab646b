"""Whether XLA computes rightly on a CPU when two programs run at once, with the flag that `cascade_jax.cpu` sets.

    python -m launch.benchmarks.two_programs

Two threads run stage one's network, at nnU-Net's size; each result is compared with that of a program that ran alone.
"""

import os
import threading

import jaxlib
import numpy as np

from cascade_jax.cpu import configuration

_TURNS = 6


def main() -> None:
    # Without `configure`: it lets programs run at once no longer.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {configuration.FASTER_CONVOLUTIONS}"
    import jax
    import jax.numpy as jnp

    from cascade_jax.models.unet import UNet
    from launch.benchmarks.ours import random_params

    network = UNet((32, 64, 128, 256, 512, 512), ((3, 3),) * 6, ((1, 1), *((2, 2),) * 5))
    params = random_params(network, (32, 32, 1), 0)
    slices = jnp.asarray(np.random.default_rng(0).normal(size=(20, 256, 224, 1)).astype(np.float32))
    program = jax.jit(lambda params, slices: network.apply({"params": params}, slices))
    alone, differences = np.asarray(program(params, slices)), []

    def run():
        for _ in range(_TURNS):
            differences.append(float(np.abs(np.asarray(program(params, slices)) - alone).max()))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong = sum(difference > 1e-4 * float(np.abs(alone).max()) for difference in differences)
    print(f"jaxlib {jaxlib.__version__}: {wrong} of {len(differences)} results are wrong")


if __name__ == "__main__":
    main()
