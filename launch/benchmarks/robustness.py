"""How much results depend on intensities' scale, orientation, field of view, pixels and single slices of real scans.

python -m launch.benchmarks.robustness --cohort=DIR [--weights=NAME_OR_FOLDER] [--cases=N]
"""

from pathlib import Path

from absl import flags

from launch import command, weights

weights.define_flags()
_COHORT = flags.DEFINE_string("cohort", None, "Labelled scans in the challenge's layout.")
_CASES = flags.DEFINE_integer("cases", 0, "So many cases, from the first to the last; 0: all.", lower_bound=0)


def main() -> None:
    command.configure_jax()
    from cascade_jax.data import emidec, folders
    from cascade_jax.data.case import some_of
    from cascade_jax.progress import bar
    from cascade_jax.report.text_tables import in_markdown
    from cascade_jax.training.robustness import compare, table_of

    cascade = weights.load()
    files = folders.find_cases(Path(_COHORT.value), labelled=True)
    if _CASES.value:
        files = some_of(files, _CASES.value)
    compared = [
        compare(cascade, emidec.read_case(file, cascade.plan.labels)) for file in bar(files, "segmenting changed scans")
    ]
    print(in_markdown(table_of(compared, cascade.plan.labels)))


if __name__ == "__main__":
    command.run(main, required=("cohort",))
