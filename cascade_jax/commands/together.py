"""Where the first of several processes hands over to the others."""

import zlib
from pathlib import Path

from ml_collections import ConfigDict

from cascade_jax import processes
from cascade_jax.errors import CaseError, ConfigError


def others_go_on(config: ConfigDict, workdir: Path, *, needed: bool = True) -> bool:
    """Returns at all processes when the first has made in the working folder what training reads.

    Args:
        config: of the run, the same at all.
        workdir: the working folder, on a file system that all see.
        needed: by the first process, whether there is anything to train.

    Returns:
        What the first has said.

    Raises:
        ConfigError, CaseError: a process has another config or another working folder than the first.
    """
    processes.wait_for_all("the cohort is prepared")
    settings = zlib.crc32(config.to_json_best_effort(sort_keys=True).encode())
    is_needed, of_first = processes.as_first_says((needed, settings))
    if settings != of_first:
        raise ConfigError("the first process was given other settings than this one; all need the same")
    if is_needed and not (workdir / "config.json").exists():
        raise CaseError(workdir, "does not hold what the first process wrote there; all need one file system")
    return bool(is_needed)
