"""Makes a table of many patients' infarcts, from their scans.

    cascade-jax study FOLDER [-o OUT] [--weights=NAME_OR_FOLDER] [--identifiers]

FOLDER has DICOM files, in folders of any depth, archives of them, or image files such as NIfTI. Of each DICOM study the
short-axis late-enhancement stack is looked for. OUT (by default FOLDER_study) gets study.csv and, with
`pip install 'cascade_jax[tables]'`, study.xlsx, with a row for each scan, and the labels. A second run does only what
is new. Patients' names, numbers and dates of birth are in the table only with --identifiers.
"""

import sys
from pathlib import Path

from absl import flags

from cascade_jax.errors import ConfigError
from cascade_jax.progress import bar
from launch import command, dicom_series, weights

weights.define_flags()
_OUTPUT = flags.DEFINE_string("output", None, "The folder for the tables and the labels.", short_name="o")
_IDENTIFIERS = flags.DEFINE_bool(
    "identifiers", False, "Put the patients' names, numbers and dates of birth into the table."
)
_STRICT = command.define_strict()


def main(inputs: list[str]) -> int:
    from cascade_jax.commands.study import CSV, XLSX, make_study

    if len(inputs) > 1:
        raise ConfigError(f"one folder is looked through, and {len(inputs)} are given (see --help)")
    source = Path(inputs[0])
    source = source if source.name not in ("", "..") else source.resolve()
    output = Path(_OUTPUT.value) if _OUTPUT.value else source.with_name(f"{source.name}_study")
    command.configure_jax()
    dicom_series.keep_libraries_quiet()
    command.print_left_out("tables", XLSX)
    print(f"looking through {source}", file=sys.stderr, flush=True)
    outcome = make_study(
        weights.load,
        source,
        output,
        weights.chosen(),
        identifiers=_IDENTIFIERS.value,
        progress=bar,
        strict=_STRICT.value,
    )
    command.print_skipped(outcome.left_out)
    for line in outcome.failed:
        print(f"failed: {line}", file=sys.stderr)
    failed = len(outcome.failed)
    print(f"{output / CSV}: {len(outcome.rows)} scans, {outcome.done} segmented by this run, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    command.run(main, required=(), private=True, inputs="the folder of scans")
