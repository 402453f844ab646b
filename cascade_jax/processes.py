"""Several processes, on one host or many, that train one network together.

Each holds the same state and cohort on its own devices, and takes a share of every batch. Files are read by all and
written by the first alone, so all see one file system. With one process, nothing here does anything.
"""

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from cascade_jax.errors import CaseError, ConfigError, LostError, TrainingError

T = TypeVar("T")

_SILENCE_SECONDS = 30  # after which a process that sends no sign of life is taken for dead
_FAREWELL_SECONDS = 30  # for which a process that ends waits for the others
_LONGEST_WAIT_MS = 7 * 24 * 3600 * 1000  # of a process that waits for the first to predict or to draw
_LONGEST_SAID = 4096  # bytes
_barriers = itertools.count()
# What XLA and its libraries say when another process is gone.
_SIGNS_OF_LOSS = ("gloo", "nccl", "by peer", "coordination service", "heartbeat", "barrier", "unavailable:")


def join(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> None:
    """Makes this process one of several. To be called before JAX is asked for its devices or computes anything.

    Args:
        coordinator: host:port of the first process; None asks the cluster for all three (`jax.distributed.initialize`
            knows SLURM, Open MPI, Kubernetes and TPU pods).
        count: how many processes there are.
        index: which of them this is; 0 is the first.

    Raises:
        ConfigError: there is no cluster to ask, or the others do not come.
    """
    # Orbax would ask that service with the numbers of steps, which begin anew with each fold.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            cluster_detection_method=None if coordinator is None else "deactivate",
            heartbeat_timeout_seconds=_SILENCE_SECONDS,
            shutdown_timeout_seconds=_FAREWELL_SECONDS,
        )
    except ValueError as error:  # of JAX, where nothing says what it asks for
        raise ConfigError(
            "distributed: no cluster was found (SLURM, Open MPI, Kubernetes or a TPU pod); give --coordinator, "
            f"--num_processes and --process_id ({error})"
        ) from error
    except RuntimeError as error:
        where = "the cluster's processes" if coordinator is None else f"coordinator {coordinator}: the processes"
        raise ConfigError(f"{where} did not come together: {str(error).splitlines()[0]}") from error


def are_several() -> bool:
    """Whether this process is one of several."""
    return jax.process_count() > 1


def all_devices() -> list[jax.Device]:
    """The devices of all processes; of one process those are its own."""
    return jax.devices() if are_several() else jax.local_devices()


def own_devices(devices: Iterable[jax.Device]) -> list[jax.Device]:
    """Those of this process, of some."""
    return [device for device in devices if device.process_index == jax.process_index()]


def is_first() -> bool:
    """Whether this process is the one that writes files and says what happens."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Returns when all processes have come here. The devices do nothing meanwhile, so it may take days.

    Args:
        what: is done when they have; it stands in what is said if one never comes.
    """
    if are_several():
        from orbax.checkpoint import multihost  # takes a while

        multihost.get_barrier_sync_fn()(key=f"{next(_barriers)}: {what}", timeout_ms=_LONGEST_WAIT_MS)


def as_first_says(value: T) -> T:
    """The first process's value, at all of them; all have to ask. Values are JSON, some lines at most."""
    if not are_several():
        return value
    said = np.zeros(_LONGEST_SAID, np.uint8)
    text = json.dumps(value).encode() if is_first() else b""
    said[: len(text)] = list(text)
    with jax.transfer_guard("allow"):
        said = np.asarray(multihost_utils.broadcast_one_to_all(said))
    return json.loads(said.tobytes().rstrip(b"\0"))


def any_says(value: bool) -> bool:
    """Whether any process has said yes; all have to ask."""
    if not are_several():
        return value
    with jax.transfer_guard("allow"):
        return bool(np.any(multihost_utils.process_allgather(np.array(value))))


def replicate(tree: Any, sharding: NamedSharding) -> Any:
    """The arrays of a tree, whole on each device of a sharding that replicates.

    Where the devices are several processes', each process gives what its own devices hold; it has to be the same.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def one(leaf):
        own = [jax.device_put(leaf, device) for device in sharding.addressable_devices]
        return jax.make_array_from_single_device_arrays(np.shape(leaf), sharding, own)

    return jax.tree.map(one, tree)


@contextlib.contextmanager
def naming_a_loss() -> Iterator[None]:
    """What a device or a barrier says when another process has ended, as a LostError."""
    try:
        yield
    except Exception as error:
        if _tells_of_a_loss(error) and are_several():
            raise LostError(jax.process_index(), jax.process_count()) from error
        raise


def _tells_of_a_loss(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is of XLA's connections; they come in several classes."""
    if error is None:
        return False
    text = "" if isinstance(error, CaseError | ConfigError | TrainingError) else str(error).lower()
    return any(sign in text for sign in _SIGNS_OF_LOSS) or _tells_of_a_loss(error.__cause__)
