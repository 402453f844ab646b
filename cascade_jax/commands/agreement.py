"""Folders of labels by several readers of the same hearts, to how they agree."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cascade_jax.data import emidec, folders, orientation
from cascade_jax.data.case import CaseError, number_of_cases
from cascade_jax.data.files import write_csv, write_text
from cascade_jax.data.labels import EMIDEC
from cascade_jax.data.outputs import recording_outputs
from cascade_jax.errors import ConfigError
from cascade_jax.progress import Progress
from cascade_jax.quantify.orientations import Orientation
from cascade_jax.quantify.plausibility import implausibility
from cascade_jax.report.confidence import read_confidence
from cascade_jax.report.readers import compare_readers, make_tables, reader_statistics, rows_of
from cascade_jax.report.tables import without_nan
from cascade_jax.report.text_tables import in_markdown

OUTPUTS = ("agreement.json", "agreement.csv")


def name_readers(readers: Sequence[str], names: Sequence[str] | None) -> dict[str, Path]:
    """What each reader is called, and where the labels lie.

    Args:
        readers: the folders.
        names: of the readers, in the same order; None calls them like their folders.

    Raises:
        ConfigError: there are fewer than two folders, or not as many names; a folder or a name comes twice, or a name
            cannot stand in a table.
    """
    paths = [Path(reader).resolve() for reader in readers]
    named = [path.name for path in paths] if names is None else [name.strip() for name in names]
    if len(paths) < 2:
        raise ConfigError(f"readers: {len(paths)} folder is given, and agreement is of two or more")
    if len(named) != len(paths):
        raise ConfigError(f"names: {len(named)} for {len(paths)} folders of readers")
    for index, (path, name) in enumerate(zip(paths, named, strict=True)):
        if path in paths[:index]:
            raise ConfigError(f"readers: {path} is given twice")
        if name in named[:index]:
            raise ConfigError(f"names: two readers would be called {name}; give each a name of its own")
        if not name or not name.isprintable() or "|" in name:
            raise ConfigError(f"names: {name!r} is no name for a table")
    return dict(zip(named, map(Path, readers), strict=True))


def compare_folders(
    readers: Mapping[str, Path],
    images: Path | None,
    progress: Progress,
    orientations: Mapping[str, Orientation] | None = None,
) -> dict:
    """Compares the cases that every reader has; one that fails does not keep the others from it.

    Args:
        readers: {reader: a folder of labels in the challenge's layout, or of files}; two or more.
        images: the images of the same cases, to find the right ventricle in; None does without.
        progress: wraps the loop with a bar.
        orientations: {case: what is known of how its slices lie}.

    Returns:
        {"readers": {reader: folder}, "cases": {case: its `report.readers.compare_readers`}, "statistics":
        `report.readers.reader_statistics`, "left_out": {case that some readers have not: who}, "failed": {case:
        reason}}.

    Raises:
        CaseError: a folder holds no labels, or a cascade's of another table; no case is every reader's.
    """
    failed: dict[str, str] = {}
    contours = {reader: folders.find_contours(folder, faults=failed) for reader, folder in readers.items()}
    for folder in readers.values():
        read_confidence(folder, EMIDEC)  # which says by its columns if a cascade wrote labels of another table
    files = {} if images is None else {file.name: file for file in folders.find_inputs(images, faults=failed)}
    names = sorted(set().union(*contours.values()) - failed.keys())
    without = {name: [reader for reader, has in contours.items() if name not in has] for name in names}
    left_out = {name: f"no labels by {', '.join(missing)}" for name, missing in without.items() if missing}
    shared = [name for name in names if name not in left_out]
    if not shared and not failed:
        raise CaseError(", ".join(map(str, readers.values())), "have no case in common; cases go by their names")
    cases = {}
    for name in progress(shared, f"comparing {number_of_cases(len(shared))}"):
        try:
            paths = {reader: has[name] for reader, has in contours.items()}
            cases[name] = _compare_case(name, paths, files, images, (orientations or {}).get(name, Orientation()))
        except CaseError as error:
            failed[name] = str(error)
    return {
        "readers": {reader: str(folder) for reader, folder in readers.items()},
        "statistics": reader_statistics(list(readers), cases),
        "cases": cases,
        "left_out": left_out,
        "failed": dict(sorted(failed.items())),
    }


def _compare_case(
    name: str,
    paths: Mapping[str, Path],
    files: Mapping[str, folders.CaseFiles],
    images: Path | None,
    known: Orientation,
) -> dict:
    first = next(iter(paths))
    geometry, reference, image = emidec.read_geometry(paths[first]), f"that of {first}", None
    if images is not None:
        if name not in files:
            raise CaseError(images, f"holds no image of case {name}")
        geometry, reference = emidec.read_geometry(files[name].image), f"its image {files[name].image.name}"
        image = emidec.read_case(dataclasses.replace(files[name], contour=None)).image
    outlines = {}
    for reader, path in paths.items():
        outlines[reader], spacing = emidec.read_labels(path, like=geometry, name=reference)
        if np.isnan(spacing[0]):
            raise CaseError(path, "is a single slice of unknown thickness, which has no volumes")
        if fault := implausibility(outlines[reader]):
            raise CaseError(path, f"is not labelled as the challenge is: {fault}")
    return compare_readers(outlines, spacing, image, known, orientation.right_handed(geometry))


def as_text(result: Mapping) -> str:
    """What `compare_folders` returned as tables in Markdown."""
    counted = [case["segments_from"] for case in result["cases"].values()]
    lines = [in_markdown(table) for table in make_tables(result["statistics"])] if counted else []
    if unnamed := counted.count("x axis"):
        lines.append(
            f"In {unnamed} of {number_of_cases(len(counted))} no insertion of the right ventricle is known: segments "
            "are counted from the stack's x axis there, alike for all readers, and do not lie where their names say.\n"
        )
    return "\n".join(lines)


def write_agreement(folder: Path, result: Mapping) -> None:
    """Writes what `compare_folders` returned as `agreement.json`, and its statistics as `agreement.csv`.

    Raises:
        CaseError: the folder cannot be written to, or holds a file of such a name that was not made so.
    """
    with recording_outputs(folder, OUTPUTS):
        write_text(folder / OUTPUTS[0], json.dumps(without_nan(result), indent=1, allow_nan=False))
        write_csv(folder / OUTPUTS[1], list(rows_of(result["statistics"])))
