"""Arrays of volumes on disk or in a bucket, each volume in chunks of its own, by TensorStore."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorstore as ts

from cascade_jax.data.case import CaseError

_CHECKSUM = "sha256"  # a file in an array's folder
# What TensorStore raises where something cannot be read or written; it has no kind of error of its own.
FAULTS = (OSError, ValueError, RuntimeError)
_CONTEXT = ts.Context()  # one for all, so that what is written to memory:// is there to be read


def checksum(array: np.ndarray) -> bytes:
    """The SHA-256 of an array's dtype, shape and values: 32 bytes."""
    array = np.asarray(array)
    about = _checksum_of(array.dtype, array.shape)
    about.update(np.ascontiguousarray(array).tobytes())
    return about.digest()


def _checksum_of(dtype: np.dtype, shape: Sequence[int]) -> "hashlib._Hash":
    return hashlib.sha256(f"{dtype.str} {tuple(shape)} ".encode())


def first_line(error: Exception) -> str:
    """An error in one line."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """What is said against writing to a path, said as a CaseError."""
    try:
        yield
    except CaseError:
        raise
    except FAULTS as error:
        raise CaseError(path, f"cannot be written: {first_line(error)}") from None


def is_url(location: Path | str) -> bool:
    """Whether a location is a URL and no path."""
    return "://" in str(location)


def open_folder(location: Path | str) -> ts.KvStore:
    """A folder of files, by its path, or wherever a URL of TensorStore's points to: `gs://bucket/folder`, `s3://...`,
    `file:///folder`, `memory://folder`.

    Raises:
        CaseError: there is no such kind of place, or it cannot be used.
    """
    if is_url(location):
        spec = f"{str(location).rstrip('/')}/"
    else:  # TensorStore takes no path with `..` in it
        spec = {"driver": "file", "path": f"{Path(location).resolve()}/"}
    try:
        return ts.KvStore.open(spec, context=_CONTEXT).result()
    except FAULTS as error:
        raise CaseError(location, f"cannot be used: {first_line(error)}") from None


def open_array(folder: ts.KvStore, shape: Sequence[int] | None = None, dtype: np.dtype | None = None) -> ts.TensorStore:
    """An array (volume, *shape of a volume) in a folder: one file a volume, in it a chunk for each entry of the
    volume's first axis, each with a checksum. So a slice is read without its volume, and no two volumes are written to
    one file.

    Args:
        folder: of the array.
        shape, dtype: of the array, to make it; None opens the one that is there.

    Raises:
        FAULTS: it is not there, or cannot be made.
    """
    spec = {
        "driver": "zarr3",
        "kvstore": folder.spec().to_json(),
        # A volume that is missing is an error, and not zeros; so zeros have to be written.
        "fill_missing_data_reads": False,
        "store_data_equal_to_fill_value": True,
    }
    if shape is not None and dtype is not None:
        plain = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        in_file = {"chunk_shape": [1, 1, *shape[2:]], "codecs": plain}
        spec["metadata"] = {
            "shape": list(shape),
            "data_type": np.dtype(dtype).name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, *shape[1:]]}},
            "codecs": [{"name": "sharding_indexed", "configuration": in_file}],
        }
    return ts.open(spec, open=True, create=shape is not None, context=_CONTEXT).result()


class Volumes:
    """Volumes of one shape, of which some are read at a time.

    Args:
        array: (row, depth, height, width).
        names: of the cases, for what is said of one that is damaged.
        place: where they lie, for the same.
        remedy: what to do then, for the same.
        rows: the row of each case; None where they are in order.
    """

    def __init__(
        self,
        array: ts.TensorStore,
        names: Sequence[str],
        place: Path | str,
        remedy: str,
        rows: Sequence[int] | None = None,
    ):
        self._array, self._names, self._place, self._remedy = array, names, place, remedy
        self._rows = np.arange(len(names)) if rows is None else np.asarray(rows)
        self.shape = (len(names), *array.shape[1:])

    def read(self, cases: Sequence[int], slices: Sequence[int] | None = None) -> np.ndarray:
        """Some cases' volumes (case, depth, height, width), or one slice of each (case, 1, height, width).

        Raises:
            CaseError: one is missing or damaged; it names it.
        """
        rows = self._rows[np.asarray(cases)]
        try:
            if slices is None:
                return self._array.vindex[rows].read().result()
            return self._array.vindex[rows, np.asarray(slices)].read().result()[:, None]
        except FAULTS as error:
            for case, row in zip(cases, rows, strict=True):
                try:
                    self._array[row].read().result()
                except FAULTS as fault:
                    about = f"case {self._names[case]} is damaged or missing ({first_line(fault)}); {self._remedy}"
                    raise CaseError(self._place, about) from None
            raise CaseError(self._place, f"cannot be read: {first_line(error)}") from None


@contextlib.contextmanager
def _complete_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` at the end: what is at `path` is complete."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}-*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield partial
        with writing(path):
            if path.exists():
                shutil.rmtree(path)
            os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_array(path: Path, count: int, volumes: Iterable[np.ndarray]) -> None:
    """Writes an array under a temporary name and renames it; one already at `path` is replaced.

    Args:
        path: the folder to make.
        count: how many volumes there are, at least one.
        volumes: of one shape and dtype; each is written as it comes and not kept.

    Raises:
        CaseError: it cannot be written.
    """
    path = Path(path)
    with _complete_folder(path) as partial:
        array = about = None
        for row, volume in enumerate(volumes):
            with writing(path):
                if array is None:
                    shape = (count, *volume.shape)
                    array = open_array(open_folder(partial), shape, volume.dtype)
                    about = _checksum_of(volume.dtype, shape)
                array[row].write(volume).result()
                about.update(np.ascontiguousarray(volume).tobytes())
        with writing(path):
            (partial / _CHECKSUM).write_text(about.hexdigest())


def read_array(path: Path) -> np.ndarray:
    """Reads an array whole.

    Raises:
        CaseError: it cannot be read, or is not what was written.
    """
    path = Path(path)
    try:
        expected = (path / _CHECKSUM).read_text()
        array = open_written(path).read().result()
    except CaseError:
        raise
    except FAULTS as error:
        raise CaseError(path, f"cannot be read ({first_line(error)}); remove the folder to make it again") from None
    if checksum(array).hex() != expected:
        raise CaseError(path, "is damaged (its checksum differs); remove the folder to make it again")
    return array


def open_written(path: Path) -> ts.TensorStore:
    """An array that was written whole, to be read by volumes.

    Raises:
        CaseError: it cannot be opened.
    """
    try:
        return open_array(open_folder(path))
    except FAULTS as error:
        raise CaseError(path, f"cannot be read ({first_line(error)}); remove the folder to make it again") from None


def joined(arrays: Sequence[ts.TensorStore]) -> ts.TensorStore:
    """Arrays of volumes of one shape as one, the volumes of the first in front."""
    return ts.concat(list(arrays), axis=0)
