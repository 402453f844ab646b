"""How many voxels have another label when a cascade computes in float64.

python -m launch.benchmarks.precision [--cohort=DIR] [--weights=NAME_OR_FOLDER] [--cases=N]
"""

from pathlib import Path

import numpy as np
from absl import flags

from launch import command, weights

weights.define_flags()
_COHORT = flags.DEFINE_string("cohort", None, "Scans in the challenge's layout; without it, simulated hearts.")
_CASES = flags.DEFINE_integer("cases", 10, "So many of them, from the first to the last.", lower_bound=1)


def main() -> None:
    command.configure_jax()
    from cascade_jax.data import emidec, folders
    from cascade_jax.data.case import some_of
    from cascade_jax.phantoms import simulated
    from cascade_jax.progress import bar
    from cascade_jax.training.precision import voxels_that_differ

    cascade = weights.load()
    if _COHORT.value is None:
        cases = [simulated.simulate_case(0, index) for index in range(_CASES.value)]
    else:
        files = folders.find_cases(Path(_COHORT.value))
        cases = [emidec.read_case(file, cascade.plan.labels) for file in some_of(files, _CASES.value)]
    counts = [voxels_that_differ(cascade, case) for case in bar(cases, "segmenting in float32 and in float64")]
    differ, voxels = np.sum(counts, axis=0)
    print(f"{differ} of {voxels} voxels of {len(cases)} cases have another label in float64:", end=" ")
    print(f"{1e5 * differ / voxels:.2g} in 100,000; at most {max(count for count, _ in counts)} in one case.")


if __name__ == "__main__":
    command.run(main, required=())
