"""The model of a stage's time on several devices that `wall_time` explains."""

import math


def stage_seconds(
    devices: int,
    *,
    step_ms: float,
    steps: int,
    batch: int,
    folds: int,
    cases: int,
    case_ms: float,
    efficiency: float,
) -> tuple[float, int]:
    """Seconds of one stage on all folds by the model above, and how many folds at once that is with."""

    def seconds(at_once):
        each = devices // at_once
        shared = math.ceil(batch / each) / batch
        step = step_ms * shared / (efficiency if shared < 1 else 1.0)
        return math.ceil(folds / at_once) * steps * step / 1000

    fastest = min(range(1, min(devices, folds) + 1), key=seconds)
    return seconds(fastest) + math.ceil(cases / devices) * case_ms / 1000, fastest
