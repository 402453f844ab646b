"""Training states and parameters on disk, with Orbax: each is complete or not there."""

from pathlib import Path
from typing import Any

import jax


def _orbax():
    # Imported where it is used: a run needs none of it before its first checkpoint, and it takes a while.
    import orbax.checkpoint

    return orbax.checkpoint


def _manager(folder: Path):
    ocp = _orbax()
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False, create=True)
    return ocp.CheckpointManager(Path(folder).resolve(), options=options)


def save_state(folder: Path, step: int, state: Any) -> None:
    """Saves a training state (a pytree of arrays) as that of `step`; the one before it goes only afterwards."""
    with _manager(folder) as manager:
        manager.save(step, args=_orbax().args.StandardSave(state))


def restore_state(folder: Path, like: Any) -> Any | None:
    """The latest state in `folder`, or None if there is none.

    Args:
        folder: where states were saved.
        like: a state of the same structure, shapes and dtypes, on the devices where the result shall be.
    """
    if not Path(folder).exists():
        return None
    with _manager(folder) as manager:
        step = manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(_orbax().utils.to_shape_dtype_struct, like)
        return manager.restore(step, args=_orbax().args.StandardRestore(abstract))


def save_params(folder: Path, params: Any) -> None:
    """Saves parameters; Orbax writes under a temporary name and renames."""
    with _orbax().StandardCheckpointer() as checkpointer:
        checkpointer.save(Path(folder).resolve(), params, force=True)


def restore_params(folder: Path) -> Any:
    """Parameters from `folder`, on the default device."""
    path = Path(folder).resolve()
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with _orbax().StandardCheckpointer() as checkpointer:
        # Their shapes are asked of the folder: the network would have to be traced to tell them.
        stored = checkpointer.metadata(path).item_metadata.tree
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), stored)
        return checkpointer.restore(path, like)
