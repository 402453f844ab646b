"""A cohort of examples on disk: TensorStore arrays and a page of JSON."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorstore as ts

from cascade_jax.data.case import CaseError
from cascade_jax.data.files import read_json
from cascade_jax.data.preprocess import Example, Grid

_INDEX = "cohort.json"
_CHECKSUM = "sha256"  # a file in an array's folder; a chunk that is missing would be read as zeros


def checksum(array: np.ndarray) -> bytes:
    """The SHA-256 of an array's dtype, shape and values: 32 bytes."""
    array = np.asarray(array)
    about = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    about.update(np.ascontiguousarray(array).tobytes())
    return about.digest()


def _array_spec(path: Path) -> dict:
    # TensorStore takes no path with `..` in it.
    return {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path.resolve())}}


def _write_array(path: Path, array: np.ndarray) -> None:
    """Writes an array, one chunk for each entry of its first axis."""
    stored = ts.open(
        _array_spec(path),
        create=True,
        dtype=ts.dtype(array.dtype),
        shape=array.shape,
        chunk_layout=ts.ChunkLayout(chunk_shape=[1, *array.shape[1:]]),
    ).result()
    stored.write(array).result()
    (path / _CHECKSUM).write_text(checksum(array).hex())


@contextlib.contextmanager
def _complete_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` at the end: what is at `path` is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        os.replace(partial, path)
    except (OSError, ValueError) as error:  # the second is TensorStore's
        raise CaseError(path, f"cannot be written: {_first_line(error)}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an array under a temporary name and renames it; one already at `path` is replaced.

    Raises:
        CaseError: it cannot be written.
    """
    with _complete_folder(Path(path)) as partial:
        _write_array(partial, array)


def read_array(path: Path) -> np.ndarray:
    """Reads an array whole.

    Raises:
        CaseError: it cannot be read, or is not what was written.
    """
    path = Path(path)
    try:
        expected = (path / _CHECKSUM).read_text()
        array = ts.open(_array_spec(path), open=True).result().read().result()
    except (OSError, ValueError) as error:
        raise CaseError(path, f"cannot be read ({_first_line(error)}); remove the folder to make it again") from None
    if checksum(array).hex() != expected:
        raise CaseError(path, "is damaged (its checksum differs); remove the folder to make it again")
    return array


def _first_line(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


def write_examples(path: Path, examples: Sequence[Example], provenance: dict) -> None:
    """Writes a cohort under a temporary name and renames it: a cohort that is there is complete.

    Args:
        path: the folder to make. One already there is replaced.
        examples: of one shape, all with labels.
        provenance: JSON-able; what the cohort was made from, so that it can be told whether it is still current.

    Raises:
        CaseError: it cannot be written.
    """
    with _complete_folder(Path(path)) as partial:
        _write_array(partial / "image", np.stack([example.image for example in examples]))
        _write_array(partial / "labels", np.stack([example.labels for example in examples]))
        index = {
            "provenance": provenance,
            "examples": [{"name": e.name, "grid": dataclasses.asdict(e.grid)} for e in examples],
        }
        (partial / _INDEX).write_text(json.dumps(index))


def read_provenance(path: Path) -> dict | None:
    """What the cohort at `path` was made from, or None if there is no complete cohort.

    Raises:
        CaseError: it cannot be read.
    """
    index = Path(path) / _INDEX
    return _read_index(index)["provenance"] if index.exists() else None


def _read_index(path: Path) -> dict:
    index = read_json(path)
    if not isinstance(index, dict) or not {"provenance", "examples"} <= index.keys():
        raise CaseError(path, "is damaged; remove its folder to make it again")
    return index


def read_shape(path: Path) -> tuple[int, int, int, int]:
    """(case, depth, height, width) of the cohort at `path`, without its voxels.

    Raises:
        CaseError: it cannot be read.
    """
    path = Path(path) / "image"
    try:
        return tuple(ts.open(_array_spec(path), open=True).result().shape)
    except (OSError, ValueError) as error:
        raise CaseError(path, f"cannot be read ({_first_line(error)}); remove the folder to make it again") from None


def _grid(values: dict) -> Grid:
    as_pairs = {key: tuple(map(tuple, values[key])) for key in ("box", "extent")}
    return Grid(**{key: tuple(value) for key, value in values.items()} | as_pairs)


def read_examples(path: Path) -> list[Example]:
    """Reads a cohort back.

    Raises:
        CaseError: the cohort cannot be read, or is not what was written.
    """
    path = Path(path)
    index = _read_index(path / _INDEX)
    try:
        images, labels = read_array(path / "image"), read_array(path / "labels")
    except CaseError as error:
        raise CaseError(path, f"the prepared cohort cannot be used: {error.fault}") from None
    try:
        return [
            Example(entry["name"], image, label, _grid(entry["grid"]))
            for entry, image, label in zip(index["examples"], images, labels, strict=True)
        ]
    except (KeyError, TypeError, ValueError):
        raise CaseError(path / _INDEX, "is damaged; remove its folder to make it again") from None
