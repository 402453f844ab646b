"""What each step of a cross-validated cascade gives: its figures without stage two, postprocessing or mirroring.

python -m launch.benchmarks.ablation --workdir=RUN --cohort=DIR
"""

from pathlib import Path

from absl import flags

from launch import command

_WORKDIR = flags.DEFINE_string("workdir", None, "Finished working folder of a cross-validation.")
_COHORT = flags.DEFINE_string("cohort", None, "The labelled scans that it was trained on.")


def main() -> None:
    command.configure_jax()
    from cascade_jax.progress import bar
    from cascade_jax.report.text_tables import in_markdown
    from cascade_jax.training.ablation import ablate

    print(in_markdown(ablate(Path(_WORKDIR.value), Path(_COHORT.value), bar)))


if __name__ == "__main__":
    command.run(main, required=("workdir", "cohort"))
