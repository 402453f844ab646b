"""How long a whole cross-validation takes on so many devices, by a model, from the time of a step on one.

    python -m launch.benchmarks.wall_time --step_ms=4.21,11.7 [--devices=1,2,4,5,8,10] [--efficiencies=1,0.8,0.5]

The model: a stage takes `ceil(folds / g)` rounds, where g folds are trained at once, each on `devices / g` devices,
rounded down; a round takes `steps * step * share / (batch * efficiency)`, where the share is of the batch on each
device, rounded up, and the efficiency counts on more than one device. A stage ends with `ceil(cases / devices)` cases
predicted on each. The g is the best one. Left out are what every start takes (reading, compiling), validation,
checkpoints and the tables.
"""

from absl import flags

from launch import command
from launch.benchmarks.wall_time_model import stage_seconds

_STEP_MS = flags.DEFINE_list("step_ms", None, "Milliseconds of a step on one device, of stage one and stage two.")
_STEPS = flags.DEFINE_list("steps", ["250000", "250000"], "Steps of a fold, of stage one and stage two.")
_BATCHES = flags.DEFINE_list("batches", ["4", "2"], "Samples in a batch, of stage one and stage two.")
_FOLDS = flags.DEFINE_integer("folds", 5, "Folds.")
_CASES = flags.DEFINE_integer("cases", 100, "Cases, each of which is predicted once by either stage.")
_CASE_MS = flags.DEFINE_float("case_ms", 1000.0, "Milliseconds in which a device predicts a case.")
_EFFICIENCIES = flags.DEFINE_list(
    "efficiencies", ["1", "0.8", "0.5"], "Of devices that share a batch: the time on one, over that on n times n."
)
_DEVICES = flags.DEFINE_list("devices", ["1", "2", "4", "5", "8", "10"], "Numbers of devices.")


def main() -> None:
    print("Hours, and in brackets how many folds are trained at once in stage one and stage two:\n")
    print(f"| devices | {' | '.join(f'efficiency {value}' for value in _EFFICIENCIES.value)} |")
    print("|---" * (1 + len(_EFFICIENCIES.value)) + "|")
    for devices in map(int, _DEVICES.value):
        columns = (_hours(devices, float(efficiency)) for efficiency in _EFFICIENCIES.value)
        print(f"| {devices} | {' | '.join(columns)} |")


def _hours(devices: int, efficiency: float) -> str:
    stages = [
        stage_seconds(
            devices,
            step_ms=float(step_ms),
            steps=int(steps),
            batch=int(batch),
            folds=_FOLDS.value,
            cases=_CASES.value,
            case_ms=_CASE_MS.value,
            efficiency=efficiency,
        )
        for step_ms, steps, batch in zip(_STEP_MS.value, _STEPS.value, _BATCHES.value, strict=True)
    ]
    hours = sum(seconds for seconds, _ in stages) / 3600
    return f"{hours:.2f} ({', '.join(str(at_once) for _, at_once in stages)})"


if __name__ == "__main__":
    command.run(main, required=("step_ms",))
