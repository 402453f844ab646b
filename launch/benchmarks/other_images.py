"""Whether a cascade is in doubt of images that are no late enhancement: cine, noise, other organs.

python -m launch.benchmarks.other_images --cohort=DIR [--weights=NAME_OR_FOLDER] [--cases=N]
"""

from pathlib import Path

from absl import flags

from launch import command, weights

weights.define_flags()
_COHORT = flags.DEFINE_string("cohort", None, "Labelled scans in the challenge's layout.")
_CASES = flags.DEFINE_integer("cases", 10, "So many of them, from the first to the last.", lower_bound=1)


def main() -> None:
    command.configure_jax()
    from cascade_jax.data import emidec, folders
    from cascade_jax.data.case import some_of
    from cascade_jax.report.text_tables import in_markdown
    from cascade_jax.training.other_images import doubts, table_of

    cascade = weights.load()
    files = folders.find_cases(Path(_COHORT.value), labelled=True)
    cases = [emidec.read_case(file, cascade.plan.labels) for file in some_of(files, _CASES.value)]
    print(in_markdown(table_of(doubts(cascade, cases))))


if __name__ == "__main__":
    command.run(main, required=("cohort",))
