"""Says what a training will be and what each device will hold, before anything runs: does it fit my GPU?

    cascade-jax plan --config=emidec --config.data.root=DIR [--workdir=DIR] [--memory_gb=8] [--config.key=value ...]

With the flags of `cascade-jax train` each stage's training step is compiled, and XLA says what it takes. Where that is
more than a device has, or with --compare, so is the step with each setting that takes less. Nothing is written, nothing
is trained. The exit status is 1 where a stage does not fit.
"""

import json
from pathlib import Path

from absl import flags

from cascade_jax.data.files import write_text
from cascade_jax.data.outputs import recording_outputs, refuse_to_replace
from cascade_jax.progress import bar, say
from launch import command, config_flag

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The working folder of the training, where it may have prepared the cohort already."
)
_MEMORY_GB = flags.DEFINE_float(
    "memory_gb", None, "Gigabytes (10^9 bytes) of a device, where another than this one is meant."
)
_COMPARE = flags.DEFINE_bool("compare", False, "Compile what takes less also where the step fits.")
_OUTPUT = flags.DEFINE_string("output", None, "A JSON file for the plan and all sizes in bytes.")


def main() -> int:
    command.configure_jax()
    from cascade_jax.commands import plan

    config, workdir = config_flag.load(_CONFIG), Path(_WORKDIR.value) if _WORKDIR.value else None
    output = Path(_OUTPUT.value) if _OUTPUT.value else None
    if output:
        refuse_to_replace(output.parent, [output.name])
    memory, source = plan.known_memory(_MEMORY_GB.value)
    run = plan.plan_run(config, workdir, bar)
    print(plan.heading(run, memory, source), flush=True)
    steps = []
    for step in plan.plan_memory(config, run, memory, compare=_COMPARE.value, progress=bar):
        say(plan.row(step))
        steps.append(step)
    print("", *plan.advice(steps), sep="\n")
    if output:
        with recording_outputs(output.parent, [output.name]):
            write_text(output, json.dumps(plan.as_json(run, steps, memory, source), indent=1))
    return 1 if any(step.fits is False for step in steps if not step.settings) else 0


if __name__ == "__main__":
    command.run(main, required=("config",))
