"""A training that dies in the middle."""

import contextlib

from cascade_jax.training.log import TrainingLog


class Killed(Exception):
    pass


@contextlib.contextmanager
def killed_at(step):
    """The training within dies when it logs this step, before the step's checkpoint; fails where it does not."""
    record = TrainingLog.steps

    def steps(self, first, *values):
        if first == step:
            raise Killed
        record(self, first, *values)

    TrainingLog.steps = steps
    try:
        yield
    except Killed:
        return
    finally:
        TrainingLog.steps = record
    raise AssertionError("it was not killed")
