"""Writes a synthetic cohort in the challenge's layout.

cascade-jax phantom --output=DIR --cases=N --seed=S
"""

from pathlib import Path

from absl import flags

from cascade_jax.progress import bar
from launch import command

_OUTPUT = flags.DEFINE_string("output", None, "The folder for the cohort.")
_CASES = flags.DEFINE_integer("cases", None, "How many cases.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the cohort; a case depends on it and its number alone.", lower_bound=0)
_FIELD_OF_VIEW = flags.DEFINE_float(
    "field_of_view_mm", None, "About so many mm around the heart; default: whole slices.", lower_bound=80
)


def main() -> None:
    from cascade_jax.phantoms.simulated import write_cohort

    write_cohort(Path(_OUTPUT.value), _CASES.value, _SEED.value, field_of_view_mm=_FIELD_OF_VIEW.value, progress=bar)


if __name__ == "__main__":
    command.run(main, required=("output", "cases"))
