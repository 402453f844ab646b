"""How far random phantoms, which the weights "phantom" in the box learnt from, are from labelled scans.

python -m launch.benchmarks.phantom_distances --cohort=DIR [--phantoms=200]
"""

from pathlib import Path

import numpy as np
from absl import flags

from launch import command

_COHORT = flags.DEFINE_string("cohort", None, "Labelled scans in the challenge's layout.")
_PHANTOMS = flags.DEFINE_integer("phantoms", 200, "How many are drawn.", lower_bound=2)


def main() -> None:
    command.configure_jax()
    from cascade_jax.cascade import load, whole_example
    from cascade_jax.data import emidec, folders
    from cascade_jax.progress import bar
    from cascade_jax.report.text_tables import in_markdown
    from cascade_jax.training.phantom_distances import distances, measure
    from cascade_jax.training.phantom_evaluation import draw_phantoms

    plan = load("phantom").plan
    scans = []
    for files in bar(folders.find_cases(Path(_COHORT.value), labelled=True), "measuring scans"):
        case = emidec.read_case(files)
        example = whole_example(plan, case)
        scans.append(measure(example.image, example.labels, (case.spacing[0], *plan.spacing[1:])))
    drawn = draw_phantoms((0, 99), _PHANTOMS.value, plan)
    phantoms = [
        measure(drawn.image[index], drawn.labels[index], (float(drawn.slice_distance[index]), *plan.spacing[1:]))
        for index in bar(np.arange(_PHANTOMS.value), "measuring phantoms")
    ]
    print(in_markdown(distances(scans, phantoms)))


if __name__ == "__main__":
    command.run(main, required=("cohort",))
