"""Networks' weights as one file of plain arrays, which cannot run code: NumPy's `.npz` without pickle."""

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from cascade_jax.data.case import CaseError
from cascade_jax.data.files import reading, replacing

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
    arrays: dict[str, Any] = {
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
        with reading(path), zipfile.ZipFile(path) as file:
            members = file.infolist()
            if sum(member.file_size for member in members) > path.stat().st_size:
                raise ValueError("it announces more than it holds")
            arrays = {member.filename.removesuffix(".npy"): _read_array(file, member) for member in members}
        return jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(arrays, sep="/"))
    except CaseError:
        raise
    except Exception as error:  # of a damaged file; zipfile and NumPy raise many kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CaseError(path, f"is not a file of weights: {lines[0]}") from None


def _read_array(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array as float32, for which no more memory is taken than the file holds."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError("its arrays are compressed")
    content = io.BytesIO(file.read(member))
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, by_column, dtype = read[np.lib.format.read_magic(content)](content)
    if dtype.kind != "f":
        raise ValueError(f"it holds {dtype}, not real numbers")
    values = np.frombuffer(content.read(), dtype).astype(np.float32)
    if min(shape, default=0) < 0 or values.size != math.prod(shape) or not np.isfinite(values).all():
        raise ValueError("an array is damaged")
    return values.reshape(shape, order="F" if by_column else "C")
