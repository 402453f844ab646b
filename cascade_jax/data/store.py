"""A cohort of examples on disk: TensorStore arrays and a page of JSON."""

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorstore as ts

from cascade_jax.data.case import CaseError
from cascade_jax.data.preprocess import Example, Grid

_INDEX = "cohort.json"


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


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` at the end: what is at `path` is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an array under a temporary name and renames it; one already at `path` is replaced."""
    with _whole(Path(path)) as partial:
        _write_array(partial, array)


def read_array(path: Path) -> np.ndarray:
    """Reads an array whole."""
    return ts.open(_array_spec(path), open=True).result().read().result()


def write_cohort(path: Path, examples: Sequence[Example], provenance: dict) -> None:
    """Writes a cohort under a temporary name and renames it: a cohort that is there is complete.

    Args:
        path: the folder to make. One already there is replaced.
        examples: of one shape, all with labels.
        provenance: JSON-able; what the cohort was made from, so that it can be told whether it is still current.
    """
    with _whole(Path(path)) as partial:
        _write_array(partial / "image", np.stack([example.image for example in examples]))
        _write_array(partial / "labels", np.stack([example.labels for example in examples]))
        index = {
            "provenance": provenance,
            "examples": [{"name": e.name, "grid": dataclasses.asdict(e.grid)} for e in examples],
        }
        (partial / _INDEX).write_text(json.dumps(index))


def read_provenance(path: Path) -> dict | None:
    """What the cohort at `path` was made from, or None if there is no complete cohort."""
    index = Path(path) / _INDEX
    return json.loads(index.read_text())["provenance"] if index.exists() else None


def _grid(values: dict) -> Grid:
    as_pairs = {key: tuple(map(tuple, values[key])) for key in ("box", "extent")}
    return Grid(**{key: tuple(value) for key, value in values.items()} | as_pairs)


def read_cohort(path: Path) -> list[Example]:
    """Reads a cohort back.

    Raises:
        CaseError: the cohort cannot be read.
    """
    path = Path(path)
    try:
        index = json.loads((path / _INDEX).read_text())
        images, labels = read_array(path / "image"), read_array(path / "labels")
    except (OSError, ValueError) as error:
        fault = str(error).splitlines()[0]
        raise CaseError(
            path, f"the prepared cohort cannot be read ({fault}); remove the folder to make it again"
        ) from error
    return [
        Example(entry["name"], image, label, _grid(entry["grid"]))
        for entry, image, label in zip(index["examples"], images, labels, strict=True)
    ]
