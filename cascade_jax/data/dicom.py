"""A short-axis stack out of DICOM files.

Needs the `dicom` extra. Patients' names, dates and numbers are read by no one here; free text, which may hold them, is
looked through for what a series is (`late_enhancement`) and not repeated. The segmentation and the report carry those
of their source series, as the standard demands.
"""

import dataclasses
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.uid import (
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.dicom_files import UIDS, SkippedFiles, dicom_contents
from cascade_jax.data.dicom_slice import (
    Slice,
    check_complete,
    is_localizer,
    series_number,
    set_transfer_syntax,
    size_fault,
    slices_of,
    text,
)
from cascade_jax.data.dicom_stack import Series, clusters, same_direction, stacks_of
from cascade_jax.data.files import replacing
from cascade_jax.data.late_enhancement import is_called_late, is_called_phase_sensitive
from cascade_jax.data.orientation import is_oblique

_MR_IMAGES = (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)


def _images(
    source: Path, skipped: SkippedFiles, files: Sequence[Path] | None
) -> Iterator[tuple[Path, pydicom.Dataset]]:
    """The MR images among the files; a report or an earlier segmentation is not one of them.

    A file that breaks off before it has said what it is counts as one, for its end to be missed.
    """
    for path, number, content, has_prefix in dicom_contents(source, skipped, files):
        try:
            dataset = pydicom.dcmread(io.BytesIO(content), force=True)
            kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
            modality = dataset.get("Modality") or "MR"
            if modality == "MR":
                set_transfer_syntax(dataset)
        except Exception as error:  # of a damaged file; pydicom's words quote it
            if has_prefix or UIDS in content[:1024]:
                raise CaseError(path, f"cannot be read as DICOM ({type(error).__name__})") from None
            skipped.add(number, "not DICOM")
            continue
        if not has_prefix and not kind:
            skipped.add(number, "not DICOM")
            continue
        like_an_image = kind in _MR_IMAGES or ("Rows" in dataset and "PixelData" in dataset)
        if modality == "MR" and (like_an_image or not len(dataset)):
            yield path, dataset
        else:
            skipped.add(number, "no MR image")


def find_series(source, only: Sequence[Path] | None = None) -> tuple[list[Series], SkippedFiles]:
    """Every series of MR images in a folder or zip archive, and of each whether it is a stack to segment.

    Files may lie in any order and several series together, with or without DICOM's prefix; a file that is there twice
    counts once. Single slices of one direction and description are joined to one stack: a series for every
    breath-hold.

    Args:
        source: the folder or zip archive.
        only: the files of a folder that are meant, such as those of one study; None means all.

    Returns:
        The series, and the files that are none of theirs.

    Raises:
        CaseError: there is none, or a file of one cannot be read, breaks off, or says where it lies in a way that
            cannot be.
    """
    source, skipped = Path(source), SkippedFiles()
    files: list[list[Slice]] = []
    without_slices: dict[str, Series] = {}
    for path, dataset in _images(source, skipped, only):
        fault = "is a localiser" if is_localizer(dataset) else size_fault(dataset)
        if fault is None:
            check_complete(path, dataset)
            if slices := slices_of(path, dataset):
                files.append(slices)
                continue
            fault = "has an image without a place in the patient"
            if "PixelSpacing" not in dataset and "ImagePositionPatient" in dataset:
                fault = "has an image without a PixelSpacing"
        without_slices[text(dataset, "SeriesInstanceUID")] = Series(series_number(dataset), (), fault)
    series: dict[str, list[Slice]] = {}
    for one in itertools.chain.from_iterable(_without_copies(files)):
        identity = text(one.dataset, "SeriesInstanceUID")
        if identity not in without_slices:  # what is left of a stack must not pass for the whole of it
            series.setdefault(identity, []).append(one)
    found = [stack for slices in _join_breath_holds(series.values()) for stack in stacks_of(slices)]
    found += without_slices.values()
    if not found:
        reasons = "; ".join(skipped.lines())
        raise CaseError(source, "holds no MR images in DICOM files" + (f": {reasons}" if reasons else ""))
    return sorted(found, key=lambda stack: stack.numbers), skipped


def _without_copies(files: Iterable[list[Slice]]) -> list[list[Slice]]:
    """Each file's images once, also where a folder has it twice.

    Raises:
        CaseError: two files have one identity and are not the same.
    """
    unique: dict[str | int, list[Slice]] = {}
    for index, slices in enumerate(files):
        before = unique.setdefault(text(slices[0].dataset, "SOPInstanceUID") or index, slices)
        places = [[one.position for one in some] for some in (before, slices)]
        if len(before) != len(slices) or not np.allclose(*places) or not _same_pixels(before[0], slices[0]):
            raise CaseError(slices[0].path, f"has the SOPInstanceUID of another image, {before[0].path.name}")
    return list(unique.values())


def _same_pixels(one: Slice, other: Slice) -> bool:
    """Whether two files hold the same; if they hold it in different ways, that is not looked into."""
    syntaxes = {each.dataset.file_meta.TransferSyntaxUID for each in (one, other)}
    return len(syntaxes) > 1 or one.dataset.PixelData == other.dataset.PixelData


def _join_breath_holds(series: Iterable[list[Slice]]) -> list[list[Slice]]:
    """A series' slices, or those of several series of one slice each that belong together."""
    names = ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesDescription")

    def belong_together(some: list[Slice], others: list[Slice]) -> bool:
        one, other = some[0], others[0]
        return (
            len(some) == len(others) == 1
            and bool(text(one.dataset, "FrameOfReferenceUID"))
            and all(text(one.dataset, name) == text(other.dataset, name) for name in names)
            and same_direction(one, other)
        )

    return [list(itertools.chain.from_iterable(joined)) for joined in clusters(series, belong_together)]


def choose_series(
    source, number: int | None = None, *, only: Sequence[Path] | None = None, unattended: bool = False
) -> tuple[Series, list[str]]:
    """The series to segment.

    Args:
        source: the folder or zip archive.
        number: its series number; None takes, of the oblique stacks (as a short axis is one), those whose description
            suggests late enhancement, of these the one with the most slices, and of equals the phase-sensitive one.
        only: as for `find_series`.
        unattended: whether nobody can be asked. Of several stacks that could be meant the last is then taken, which
            its notes say, and images of several studies are refused.

    Returns:
        The series, and lines for the user: for each kind of file and each series that was skipped, why, and what
        is to be known of the chosen one.

    Raises:
        CaseError: as `find_series`; or no series, or more than one, is such a stack.
    """
    found, files = find_series(source, only)
    studies = {text(one.dataset, "StudyInstanceUID") for series in found for one in series.slices}
    if unattended and len(studies) > 1:
        raise CaseError(source, f"holds images of {len(studies)} studies: give each alone")
    considered = [series for series in found if number is None or number in series.numbers]
    if not considered:
        names = ", ".join(dict.fromkeys(series.name for series in found))
        raise CaseError(source, f"has no MR images in series {number}; it has {names}")
    reasons = [series.fault or _unlike_a_short_axis(series, number) for series in considered]
    stacks = [series for series, reason in zip(considered, reasons, strict=True) if reason is None]
    if not stacks:
        listed = "; ".join(dict.fromkeys(f"{one.name} {why}" for one, why in zip(considered, reasons, strict=True)))
        hint = "; give the number of the one that is meant" if any(one.fault is None for one in considered) else ""
        also = "".join(f"; {line}" for line in files.lines())
        raise CaseError(source, f"holds no stack to segment: {listed}{hint}{also}")
    first = max(map(_preference, stacks))
    best = [series for series in stacks if _preference(series) == first]
    chosen = best[-1]
    if len(best) > 1:
        listed = ", ".join(f"{series.name} ({len(series.slices)} slices)" for series in best)
        if not unattended:
            wanted = "give a number" if number is None else "keep one of them"
            raise CaseError(source, f"has several stacks that could be meant, {wanted}: {listed}")
        note = f"is the last of several stacks that could be meant: {listed}"
        chosen = dataclasses.replace(chosen, notes=(*chosen.notes, note))
    skipped = []
    for series, reason in zip(considered, reasons, strict=True):
        if series is not best[-1]:
            name = f"another stack of {series.name}" if series.numbers == chosen.numbers else series.name
            skipped.append(f"skipped {name}, which {reason or _less_than(series, chosen)}")
    return chosen, [*files.lines(), *dict.fromkeys(skipped), *chosen.remarks]


def _preference(series: Series) -> tuple[bool, int, bool]:
    """What makes a stack the one that is meant, the greater the more."""
    description = text(series.slices[0].dataset, "SeriesDescription")
    return is_called_late(description), len(series.slices), is_called_phase_sensitive(description)


def _less_than(series: Series, chosen: Series) -> str:
    """Why a stack comes after the chosen one, to be read after its name."""
    (late, count, _), (chosen_late, chosen_count, _) = _preference(series), _preference(chosen)
    if late < chosen_late:
        return "is not called late enhancement, as another is"
    if count < chosen_count:
        return "has fewer slices"
    return "is not called phase-sensitive, as another is" if _preference(series) < _preference(chosen) else "is earlier"


def _unlike_a_short_axis(series: Series, number: int | None) -> str | None:
    """Why a stack is not taken unless its number is given, if so."""
    if number is not None or is_oblique(series.slices[0].normal):
        return None
    return "is not oblique, as a short axis is"


def read_series(source, series: Series, name: str) -> Case:
    """A series as a case, with the patient's coordinates in its header.

    Padding gets one value in all slices, a thousandth of the image's range below its lowest, so that it is a constant
    border that no tissue shares.

    Args:
        source: where it came from, for messages.
        series: as `choose_series` gives it.
        name: the case's.

    Raises:
        CaseError: pixels cannot be decoded, or are all alike.
    """
    planes = [one.pixels() for one in series.slices]
    image, padding = (np.stack(part) for part in zip(*planes, strict=True))
    tissue = image[~padding]
    if not tissue.size or not np.isfinite(tissue).all() or tissue.min() == tissue.max():
        raise CaseError(source, f"{series.name} is no image with contrast")
    image[padding] = tissue.min() - (tissue.max() - tissue.min()) / 1000
    first, distance = series.slices[0], series.slice_distance
    rows, columns = first.spacing
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.across * columns, first.down * rows
    affine[:3, 2], affine[:3, 3] = first.normal * distance, first.position
    affine[:2] *= -1  # LPS to NIfTI's RAS
    header = nib.Nifti1Header()
    header.set_data_shape(image.shape[::-1])
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header.set_xyzt_units("mm")
    return Case(name, image, None, (distance, rows, columns), header)


def write_dataset(path: Path, dataset: pydicom.Dataset) -> None:
    """Writes a DICOM object as a file.

    Raises:
        CaseError: the file cannot be written.
    """
    with replacing(path) as partial:
        dataset.save_as(partial)
