"""What makes a training step take less memory, as settings of a config, and the advice where memory is full."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from cascade_jax.cascade import STAGES, compute_dtype
from cascade_jax.errors import TrainingError, is_out_of_memory

_MOST_PARTS = 8  # of a batch, that are proposed; each part more makes the others' gain smaller


def ways_to_save(config: ConfigDict, stage: int, share: int, resident_gb: float = 0.0) -> list[dict[str, Any]]:
    """What can be switched on beyond the config, {setting: value}, from the cheapest to all of it together.

    bfloat16 costs nothing on an accelerator; reading the cohort while training, work of the host; parts, and computing
    feature maps again, one more forward pass each.

    Args:
        config: of a run.
        stage: 0 or 1.
        share: how many samples of the stage's batch a device has.
        resident_gb: of the cohort, where it lies on the device (10^9 bytes); else 0.
    """
    name = STAGES[stage]
    more = [n for n in range(config[name].accumulate + 1, share + 1) if share % n == 0]
    ways: list[dict[str, Any]] = []
    if compute_dtype(config.compute_dtype) != "bfloat16":
        ways.append({"compute_dtype": "bfloat16"})
    if resident_gb:
        ways.append({"data.memory_gb": float(f"{resident_gb / 2:.2g}")})  # any size below what it takes
    if more:
        ways.append({f"{name}.accumulate": more[0]})
    if not config[name].rematerialise:
        ways.append({f"{name}.rematerialise": True})
    together = {key: value for way in ways for key, value in way.items()}
    if more:
        together[f"{name}.accumulate"] = max([n for n in more if n <= _MOST_PARTS], default=more[0])
    return ways if together in ways or not ways else [*ways, together]


def as_flags(settings: Mapping[str, Any]) -> str:
    """Settings as they are given to a command."""
    return " ".join(f"--config.{key}={value}" for key, value in settings.items())


@contextlib.contextmanager
def advising_on_memory(config: ConfigDict, stage: int, share: int, description: str) -> Iterator[None]:
    """Raises XLA's error about a full memory as a TrainingError that says what to switch on; arguments as for
    `ways_to_save`, and what the network in training is called."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        # The others change what a working folder stands for.
        ways = [way for way in ways_to_save(config, stage, share) if "compute_dtype" not in way]
        if ways:
            advice = (
                f"less is taken with {' or '.join(map(as_flags, ways[:2]))}, with which the same command goes on from "
                "the last checkpoint"
            )
        else:
            part = ("slices", "volumes")[stage]
            advice = f"a smaller batch (--config.plan.{part}.batch_size) or plan.shape, in another folder, takes less"
        line = str(error).splitlines()[0]
        raise TrainingError(
            f"{description}: the device's memory is too small ({line}); {advice}; `cascade-jax plan` says what fits"
        ) from error
