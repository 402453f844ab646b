"""Training states and parameters on disk, with Orbax: each is complete or not there, and carries a checksum."""

import contextlib
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from absl import logging

from cascade_jax import processes
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import file_checksum, read_json, write_text
from cascade_jax.data.store import checksum

_CHECKSUMS = "sha256.json"  # of every other file of a folder
_OVERHEAD_BYTES = 500_000  # of the many small files that Orbax writes
_REMEDY = "remove the folder to have it trained again"
# Orbax numbers its operations in the whole process, and of two at once one can wait for the other's signals.
_one_at_a_time = threading.RLock()


def _orbax():
    # Imported where it is used: a run needs none of it before its first checkpoint, and it takes a while.
    import orbax.checkpoint

    return orbax.checkpoint


def _manager(folder: Path):
    ocp = _orbax()
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False, create=True)
    return ocp.CheckpointManager(Path(folder).resolve(), options=options)


def _checkpointer():
    """Of parameters, which are one process's own: the others know nothing of it."""
    ocp = _orbax()
    if not processes.are_several():
        return ocp.StandardCheckpointer()
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(own, {own}, barrier_sync_key_prefix=f"process{own}")
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def digest(tree: Any) -> str:
    """The SHA-256 of all arrays of a tree and of their names."""
    about = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        about.update(jax.tree_util.keystr(path).encode() + checksum(jax.device_get(leaf)))
    return about.hexdigest()


@contextlib.contextmanager
def _writing(folder: Path, tree: Any) -> Iterator[None]:
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + _OVERHEAD_BYTES
    there = next(parent for parent in Path(folder).absolute().parents if parent.exists())
    free = shutil.disk_usage(there).free
    # Asked before, since Orbax goes on in other threads, which print what went wrong at length.
    if free < needed:
        raise CaseError(folder, f"cannot be written: {needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free")
    try:
        with _one_at_a_time:
            yield
    except Exception as error:  # Orbax documents none; what the disk says comes in many classes
        for partial in Path(folder).parent.glob(f"{Path(folder).name}*orbax-checkpoint-tmp*"):
            shutil.rmtree(partial, ignore_errors=True)
        raise CaseError(folder, f"cannot be written: {_reason(error)}") from error


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """What goes wrong while a folder is read, as a CaseError."""
    try:
        with _one_at_a_time:
            yield
    except CaseError:
        raise
    except PermissionError as error:
        raise CaseError(folder, f"cannot be read: {error.strerror}") from error
    except Exception as error:  # Orbax documents none, and damaged files make it raise many classes
        raise CaseError(folder, f"has damaged or missing files; {_REMEDY}") from error


def _reason(error: Exception) -> str:
    """What a user can do something about, else the first line."""
    text = f"{error} {error.__cause__ or ''}"
    if any(words in text for words in ("No space left", "Disk quota", "RESOURCE_EXHAUSTED")):
        return "there is no room on the disk"
    return (getattr(error, "strerror", None) or text.strip() or type(error).__name__).splitlines()[0]


def _write_checksums(folder: Path) -> None:
    checksums = {
        path.relative_to(folder).as_posix(): file_checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _CHECKSUMS
    }
    write_text(folder / _CHECKSUMS, json.dumps(checksums, indent=1))


def _check(folder: Path) -> None:
    """Raises CaseError if a file is not what was written; before Orbax reads it, since that goes on in other threads,
    which print what went wrong at length."""
    if not (folder / _CHECKSUMS).exists():
        return  # of version 0.1.0, or of a run that was killed at that moment: Orbax itself finds missing files
    try:
        expected = read_json(folder / _CHECKSUMS)
    except CaseError:
        expected = None
    if not isinstance(expected, dict):
        raise CaseError(folder, f"has damaged or missing files; {_REMEDY}")
    for name, checksum_then in expected.items():
        if not (folder / name).is_file() or file_checksum(folder / name) != checksum_then:
            raise CaseError(folder, f"has damaged or missing files; {_REMEDY}")


def save_state(folder: Path, step: int, state: Any) -> None:
    """Saves a training state (a pytree of arrays) as that of `step`, unless that is there; the one before it stays.

    Of several processes all have to call it.

    Raises:
        CaseError: it cannot be written.
    """
    with _writing(folder, state), _manager(folder) as manager:
        if step in manager.all_steps():
            return
        manager.save(step, args=_orbax().args.StandardSave(state))
        if processes.is_first():
            _write_checksums(Path(folder) / str(step))
        processes.wait_for_all("a checkpoint is written")


def restore_state(folder: Path, like: Any) -> Any | None:
    """The latest state in `folder` that is as it was saved, or None if none was saved.

    A damaged one is removed with a line that says so, if one before it is whole. Of several processes all have to call
    it; how many had saved the state does not matter.

    Args:
        folder: where states were saved.
        like: a state of the same structure, shapes and dtypes, on the devices where the result shall be.

    Raises:
        CaseError: none can be read, or none is what was saved.
    """
    abstract = jax.tree.map(_orbax().utils.to_shape_dtype_struct, like)
    damaged: list[CaseError] = []
    for path in _saved(folder):
        try:
            _check_for_all(path)
            with _reading(path), _manager(folder) as manager:
                state = manager.restore(int(path.name), args=_orbax().args.StandardRestore(abstract))
        except CaseError as error:
            damaged.append(error)
            continue
        for error in damaged if processes.is_first() else ():
            logging.warning("%s has damaged or missing files; going on from step %s", error.path, path.name)
            shutil.rmtree(error.path, ignore_errors=True)
        return state
    if damaged:
        raise damaged[0]
    return None


def _saved(folder: Path) -> list[Path]:
    """The folders of the states that were saved, the latest first; several processes take what the first finds."""
    there = Path(folder).iterdir() if Path(folder).exists() else ()
    steps = sorted((int(path.name) for path in there if path.name.isdecimal()), reverse=True)
    return [Path(folder) / str(step) for step in processes.as_first_says(steps)]


def _check_for_all(folder: Path) -> None:
    """`_check`, for several processes done by the first."""
    fault = None
    try:
        if processes.is_first():
            _check(folder)
    except CaseError as error:
        fault = error.fault
    if fault := processes.as_first_says(fault):
        raise CaseError(folder, fault)


def save_params(folder: Path, params: Any) -> None:
    """Saves this process's parameters; Orbax writes under a temporary name and renames.

    Raises:
        CaseError: they cannot be written.
    """
    with _writing(folder, params):
        if processes.are_several():
            params = jax.device_get(params)  # Orbax saves no array that is of one process's devices
        with _checkpointer() as checkpointer:
            checkpointer.save(Path(folder).resolve(), params, force=True)
        _write_checksums(Path(folder))


def restore_params(folder: Path) -> Any:
    """Parameters from `folder`, on the default device.

    Raises:
        CaseError: they are missing, cannot be read, or are not what was saved.
    """
    path = Path(folder).resolve()
    if not path.is_dir():
        raise CaseError(folder, "is missing: it should hold trained parameters")
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    _check(path)
    with _reading(folder), _checkpointer() as checkpointer:
        # Their shapes are asked of the folder: the network would have to be traced to tell them.
        stored = checkpointer.metadata(path).item_metadata.tree
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), stored)
        return checkpointer.restore(path, like)
