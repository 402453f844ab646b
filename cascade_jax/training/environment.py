"""Where a run was computed: programs, their versions and devices, one entry for every start."""

import datetime
import importlib.metadata
import json
import platform
from pathlib import Path

import jax
from absl import logging

from cascade_jax.data.case import CaseError
from cascade_jax.data.files import read_json, write_text

RUN_FILE = "run.json"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy")


def environment() -> dict[str, object]:
    """Versions, platform and devices of this run, those of all its processes together."""
    from cascade_jax import __version__

    devices = jax.devices()
    return {
        "versions": {"cascade_jax": __version__} | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": devices[0].device_kind,
        "device_count": len(devices),
    }


def record_start(workdir: Path) -> None:
    """Adds this start to `workdir/run.json`; a line says what differs from any start before, whose folds may lie there.

    On other devices, on another number of them and with other versions a run is the same to float tolerance, not to the
    bit.

    Raises:
        CaseError: the file is damaged or cannot be written.
    """
    path = workdir / RUN_FILE
    starts = read_json(path) if path.exists() else []
    if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
        raise CaseError(path, "is damaged: it is no list of starts; remove it to go on")
    now = environment()
    # As keys, so that each is named once.
    others = {name: {str(start.get(name)): None for start in starts if start.get(name) != now[name]} for name in now}
    changes = ", ".join(f"{name} (was {' and '.join(was)}, is {now[name]})" for name, was in others.items() if was)
    if changes:
        logging.warning("%s: %s; what follows equals the run's to float tolerance, not to the bit", workdir, changes)
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_text(path, json.dumps([*starts, {"time": time} | now], indent=1))
