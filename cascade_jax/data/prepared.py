"""A cohort of examples on disk or in a bucket, written case by case by as many processes as one likes.

begun.json           what it is made of, written first
image, labels        arrays (case, depth, height, width), one file a case
case/<number>.json   what else is known of a case, and its arrays' checksums, written when they are there
cohort.json          all of that, written last: a cohort that has it is complete
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from cascade_jax.data import store
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import parse_json
from cascade_jax.data.preprocess import Example, Grid, heart_box

_BEGUN, _INDEX = "begun.json", "cohort.json"
_FORMAT = 2  # 1 was one file that was written at once
_ARRAYS = {"image": np.float32, "labels": np.uint8}
_REMEDY = f"remove {_INDEX} in it to have that case made again"


def _read_json(folder: ts.KvStore, name: str, location: Path | str) -> Any | None:
    """What a JSON file holds, or None where there is none; raises CaseError."""
    return _json(folder.read(name), name, location)


def _json(reading: ts.Future, name: str, location: Path | str) -> Any | None:
    """The same of a file that is being read."""
    path = f"{str(location).rstrip('/')}/{name}"
    try:
        found = reading.result()
    except store.FAULTS as error:
        raise CaseError(path, f"cannot be read: {store.first_line(error)}") from None
    if found.state != "value":
        return None
    try:
        return parse_json(found.value.decode())
    except ValueError:
        raise CaseError(path, "is damaged; remove its folder to make it again") from None


def _read_index(folder: ts.KvStore, location: Path | str) -> dict | None:
    index = _read_json(folder, _INDEX, location)
    if index is not None and (not isinstance(index, dict) or "provenance" not in index):
        raise CaseError(f"{str(location).rstrip('/')}/{_INDEX}", "is damaged; remove its folder to make it again")
    return index


def read_provenance(location: Path | str) -> dict | None:
    """What the cohort at a location was made from, or None if there is no complete cohort.

    Raises:
        CaseError: it cannot be read.
    """
    index = _read_index(store.open_folder(location), location)
    return None if index is None else index["provenance"]


def is_complete(location: Path | str, provenance: dict) -> bool:
    """Whether the cohort at a location is complete, and of this provenance and this version's making.

    Raises:
        CaseError: it cannot be read.
    """
    index = _read_index(store.open_folder(location), location)
    return index is not None and index.get("format") == _FORMAT and index["provenance"] == provenance


def read_begun(location: Path | str, provenance: dict) -> dict | None:
    """What was said when a cohort was begun at a location (`begin`); None where none was, or one of another provenance.

    Raises:
        CaseError: it cannot be read.
    """
    begun = _read_json(store.open_folder(location), _BEGUN, location)
    is_ours = isinstance(begun, dict) and begun.get("format") == _FORMAT and begun.get("provenance") == provenance
    return begun if is_ours else None


def begin(
    location: Path | str, names: Sequence[str], shape: Sequence[int], plan: dict, provenance: dict, *, replace: bool
) -> None:
    """Makes the arrays of a cohort, into which `Writer` writes.

    Args:
        location: a folder, or a URL of TensorStore's (`store.open_folder`).
        names: of the cases.
        shape: of every example, (depth, height, width).
        plan: JSON-able; kept with the cohort.
        provenance: JSON-able; what the cohort is made from, so that it can be told whether it is still current.
        replace: whether the location is the caller's own, and whatever is there is removed.

    Raises:
        CaseError: the location cannot be written, or holds another cohort that is not to be replaced.
    """
    begun = {"format": _FORMAT, "provenance": provenance, "plan": plan, "names": list(names), "shape": list(shape)}
    text = json.dumps(begun).encode()
    with store.writing(location):
        folder = store.open_folder(location)
        if replace:
            folder.write(_INDEX, None).result()  # first: what is half removed is not complete
            folder.delete_range(ts.KvStore.KeyRange()).result()
        elif any(folder.read(name).result().state == "value" for name in (_BEGUN, _INDEX)):
            raise CaseError(location, "holds a cohort that was prepared from other files or for another plan")
        for name, dtype in _ARRAYS.items():
            store.open_array(folder / f"{name}/", (len(names), *shape), dtype)
        folder.write(_BEGUN, text).result()


class Writer:
    """Writes the examples of a cohort that was begun, in any order; several may, in several processes.

    Raises:
        CaseError: none was begun.
    """

    def __init__(self, location: Path | str):
        self.location, self._folder = location, store.open_folder(location)
        begun = _read_json(self._folder, _BEGUN, location)
        if begun is None:
            raise CaseError(location, "holds no cohort that was begun")
        self._begun, self.shape = begun, tuple(begun["shape"])
        with store.writing(location):
            self._arrays = {name: store.open_array(self._folder / f"{name}/") for name in _ARRAYS}

    def has(self, number: int) -> bool:
        """Whether a case is there whole: its arrays have the checksums that they were written with."""
        try:
            known = _read_json(self._folder, f"case/{number}.json", self.location)
            arrays = {name: array[number].read() for name, array in self._arrays.items()}
            return known is not None and all(
                store.checksum(array.result()).hex() == known[name] for name, array in arrays.items()
            )
        except (*store.FAULTS, KeyError, TypeError):
            return False

    def write(self, number: int, example: Example) -> None:
        """Writes a case, of which `number` is the position in the cohort.

        Raises:
            CaseError: it cannot be written.
        """
        grid = dataclasses.asdict(example.grid)
        heart = heart_box(example.labels, np.array(example.grid.extent)).tolist()
        known: dict[str, Any] = {"name": example.name, "grid": grid, "heart": heart}
        with store.writing(self.location):
            arrays = {name: np.asarray(getattr(example, name), dtype) for name, dtype in _ARRAYS.items()}
            for written in [self._arrays[name][number].write(array) for name, array in arrays.items()]:
                written.result()
            known |= {name: store.checksum(array).hex() for name, array in arrays.items()}
            self._folder.write(f"case/{number}.json", json.dumps(known).encode()).result()

    def finish(self) -> None:
        """Says that the cohort is complete.

        Raises:
            CaseError: a case is missing, or it cannot be said.
        """
        names, cases = self._begun["names"], []
        files = [f"case/{number}.json" for number in range(len(names))]
        # All at once: a bucket takes a tenth of a second to answer.
        for name, file, reading in zip(names, files, [self._folder.read(file) for file in files], strict=True):
            if (known := _json(reading, file, self.location)) is None:
                raise CaseError(self.location, f"case {name} is missing")
            cases.append(known)
        with store.writing(self.location):
            self._folder.write(_INDEX, json.dumps(self._begun | {"cases": cases}).encode()).result()


def _grid(values: dict) -> Grid:
    as_pairs = {key: tuple(map(tuple, values[key])) for key in ("box", "extent")}
    return Grid(**{key: tuple(value) for key, value in values.items()} | as_pairs)


class PreparedCohort(Sequence[Example]):
    """A complete cohort, whose examples are read when they are asked for.

    Attributes:
        location: where it lies.
        provenance: what it was made from.
        plan: what was kept with it, as JSON has it.
        names: of the cases.
        shape: of every example.
        grids: of every example, the way back to its case.
        extents: int32 (case, 3, 2), each example's field of view.
        hearts: int32 (case, 3, 2), each example's `heart_box`.
        image, labels: volumes (case, depth, height, width), float32 and uint8, to be read without their examples.

    Raises:
        CaseError: there is none, or it cannot be read.
    """

    def __init__(self, location: Path | str):
        self.location, folder = location, store.open_folder(location)
        index = _read_index(folder, location)
        if index is None or index.get("format") != _FORMAT:
            raise CaseError(location, "holds no complete cohort")
        try:
            self.provenance, self.plan, self.shape = index["provenance"], index["plan"], tuple(index["shape"])
            self._cases = index["cases"]
            self.names = [case["name"] for case in self._cases]
            self.grids = [_grid(case["grid"]) for case in self._cases]
            self.hearts = np.array([case["heart"] for case in self._cases], np.int32)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CaseError(location, f"{_INDEX} is damaged; remove its folder to make it again") from None
        self.extents = np.array([grid.extent for grid in self.grids], np.int32)
        self.image, self.labels = (self._volumes(folder, name) for name in _ARRAYS)

    def _volumes(self, folder: ts.KvStore, name: str) -> store.Volumes:
        try:
            array = store.open_array(folder / f"{name}/")
        except store.FAULTS as error:
            raise CaseError(
                self.location, f"cannot be read ({store.first_line(error)}); remove the folder to make it again"
            ) from None
        return store.Volumes(array, self.names, self.location, _REMEDY)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number):
        """The example at a position; raises CaseError if it is not what was written."""
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        arrays = {name: getattr(self, name).read([number])[0] for name in _ARRAYS}
        for name, array in arrays.items():
            if store.checksum(array).hex() != self._cases[number].get(name):
                about = f"case {self.names[number]} is damaged (its checksum differs); {_REMEDY}"
                raise CaseError(self.location, about)
        return Example(self.names[number], **arrays, grid=self.grids[number])
