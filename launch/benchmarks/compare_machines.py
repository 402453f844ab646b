"""Puts what several machines have measured side by side: one table and one plot.

    cascade-jax benchmarks.compare_machines A.json B.json [...] --output=DIR

Each file is what `cascade-jax benchmark --suites=scaling --output=A.json` wrote, and its name is the machine's.
DIR/machines.md has the table, DIR/machines.png samples a second over devices and over batch sizes; the plot needs
`pip install 'cascade_jax[report]'`.
"""

from pathlib import Path

from absl import flags

from cascade_jax.errors import CaseError
from cascade_jax.extras import missing
from launch import command
from launch.benchmarks.machines import draw, read_machine, table

_OUTPUT = flags.DEFINE_string("output", None, "The folder for machines.md and machines.png.")
_TABLE, _PLOT = "machines.md", "machines.png"


def main(files: list[str]) -> None:
    from cascade_jax.data.files import write_text
    from cascade_jax.data.outputs import recording_outputs, refuse_to_replace

    output = Path(_OUTPUT.value)
    names = [_TABLE] if missing("report") else [_TABLE, _PLOT]
    refuse_to_replace(output, names)
    machines = [read_machine(Path(file)) for file in files]
    called = [machine.name for machine in machines]
    if again := [file for file, name in zip(files, called, strict=True) if called.count(name) > 1]:
        raise CaseError(again[1], f"is called like {again[0]}, and the name is the machine's: rename one")
    text = table(machines)
    with recording_outputs(output, names):
        write_text(output / _TABLE, text + "\n")
        if _PLOT in names:
            draw(output / _PLOT, machines)
    print(text)
    command.print_left_out("report", "the plot")


if __name__ == "__main__":
    command.run(main, required=("output",), inputs="the files of one machine or more")
