"""Networks' weights as one file of plain arrays, which cannot run code: NumPy's `.npz` without pickle."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from cascade_jax.data.case import CaseError
from cascade_jax.data.files import replacing

WEIGHTS_FILE = "weights.npz"


def write_weights(path: Path, params: Any) -> None:
    """Writes nested dicts of arrays as float16.

    Args:
        path: the file.
        params: e.g. {"stage1": parameters, ...}.

    Raises:
        CaseError: the file cannot be written.
        ValueError: a weight is beyond float16's range.
    """
    arrays = {
        name: np.asarray(leaf).astype(np.float16) for name, leaf in traverse_util.flatten_dict(params, sep="/").items()
    }
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has weights that are no float16")
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def read_weights(path: Path) -> Any:
    """What `write_weights` wrote, as float32 arrays on the default device.

    Raises:
        CaseError: the file is damaged or holds anything but numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name].astype(np.float32) for name in file.files}
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        KeyError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CaseError(path, f"is not a file of weights: {lines[0]}") from None
    return traverse_util.unflatten_dict(jax.tree.map(jnp.asarray, arrays), sep="/")
