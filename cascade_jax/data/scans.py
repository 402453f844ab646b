"""Finding what is to be segmented in any folder: files of images, archives and DICOM studies, at any depth."""

import dataclasses
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cascade_jax.data import folders, formats
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.dicom_files import holds_dicom_and_other_images
from cascade_jax.data.dicom_studies import Study, group_studies, study_of
from cascade_jax.data.emidec import read_case
from cascade_jax.data.files import reading
from cascade_jax.data.labels import LabelTable
from cascade_jax.data.outputs import has_outputs, was_made_here
from cascade_jax.extras import missing

if TYPE_CHECKING:  # pydicom may not be there
    from cascade_jax.data.dicom_stack import Series

_NO_IMAGES = tuple(
    name.casefold() for name in (folders.CONTOURS, folders.DOUBT, folders.DISAGREEMENT, folders.CORRECTED)
)


@dataclasses.dataclass(frozen=True)
class Scan:
    """One thing to segment.

    Attributes:
        name: what its results are called.
        place: the file or folder that they lie beside.
        source: what is read: a file of an image, an archive, or the folder that has all files of a DICOM study.
        files: of which it consists, sorted.
        is_dicom: whether it is a DICOM study.
        key: by which it is known again, in a folder that has grown: nothing of the patient's.
    """

    name: str
    place: Path
    source: Path
    files: tuple[Path, ...]
    is_dicom: bool
    key: str

    def read(self, table: LabelTable) -> "tuple[Case, Series | None, list[str]]":
        """The case, its DICOM series or None, and what is to be known of how that is read.

        Raises:
            CaseError: it cannot be read, or has no late-enhancement stack.
        """
        if not self.is_dicom:
            return read_case(folders.CaseFiles(self.name, self.source, None), table), None, []
        if install := missing("dicom"):
            raise CaseError(self.source, f"is DICOM, which needs {install}")
        from cascade_jax.data import dicom

        only = self.files if self.source.is_dir() else None
        series, _ = dicom.choose_series(self.source, only=only, unattended=True)
        return dicom.read_series(self.source, series, self.name), series, series.remarks


def find_scans(root, leave_out: Path | None = None) -> tuple[list[Scan], list[str]]:
    """What is to be segmented in a folder, or the file that `root` is, sorted by place.

    An image is a scan, a zip archive of DICOM images is one, and so is a DICOM study, wherever its files lie. Labels
    are none: files and folders named like what lies beside them and `_seg`, the layout's `Contours`, nnU-Net's
    `labelsTr`.

    Args:
        root: the folder or file.
        leave_out: a folder in it that is not looked into.

    Returns:
        The scans, and a line for each file that looks like one and is none. No scans where the root is a file of
        labels: it may be one of many that a shell's * has found.

    Raises:
        CaseError: the root is missing or holds nothing to segment.
    """
    root = Path(root)
    root = root if root.name not in ("", "..") else root.resolve()
    with reading(root):
        is_file = root.is_file()
        if not is_file:
            os.listdir(root)
    scans: list[Scan] = []
    skipped: list[str] = []
    studies: dict[str, list[Path]] = {}
    others = 0
    for path in [root] if is_file else _walk(root, leave_out):
        if not path.is_file():
            skipped.append(f"{path}: is a link to nothing, or no ordinary file")
        elif formats.stem_of(path) is not None:
            if _is_labels(path):
                skipped.append(f"{path}: is the labels of an image")
            else:
                scans.append(_of_image(path, root))
        elif _is_archive(path):
            if holds_dicom_and_other_images(path)[0]:
                scans.append(Scan(path.stem, path, path, (path,), True, _key(path, root)))
            else:
                skipped.append(f"{path}: is an archive without DICOM images: unpack it")
        elif (study := study_of(path)) is not None:
            studies.setdefault(study, []).append(path)
        elif is_file or path.name.lower().endswith(formats.OTHER_FORMATS):
            skipped.append(f"{path}: is no image that is read")
        elif path.suffix.lower() != ".img":
            others += 1
    scans += [_of_study(study, root) for study in group_studies(studies, root)]
    if is_file and _is_labels(root):
        return [], skipped
    if not scans:
        if is_file and skipped:
            raise CaseError(root, skipped[0].removeprefix(f"{root}: "))
        raise CaseError(root, "holds nothing to segment: neither image files nor DICOM images")
    if others:  # whose names may be patients'
        skipped.append(f"{root}: {others} other file{'s' * (others > 1)}")
    return sorted(scans, key=lambda scan: (str(scan.place), scan.name)), skipped


def _walk(root: Path, leave_out: Path | None) -> Iterator[Path]:
    """The files at any depth, also behind links to folders, each folder once, sorted; none that are hidden."""

    def refuse(error: OSError) -> None:
        raise CaseError(error.filename, f"cannot be read: {error.strerror}") from None

    left_out = None if leave_out is None else leave_out.resolve()
    seen = set()
    for here, names, files in os.walk(root, onerror=refuse, followlinks=True):
        state, folder = os.stat(here), Path(here)
        if (state.st_dev, state.st_ino) in seen:
            names.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        names[:] = sorted(
            name
            for name in names
            if not name.startswith(".") and (folder / name).resolve() != left_out and not _holds_labels(folder / name)
        )
        yield from (folder / name for name in sorted(files) if not name.startswith("."))


def _is_archive(path: Path) -> bool:
    with reading(path):
        return zipfile.is_zipfile(path)


def _holds_labels(folder: Path) -> bool:
    """Whether a folder below another is known to have no images to segment."""
    name = folder.name.casefold()
    if name.startswith("labels") and (folder.parent / f"images{folder.name[6:]}").is_dir():
        return True
    if folders.lies_beside_its_image(folder) or (name.endswith(folders.LABELS) and has_outputs(folder)):
        return True
    return name in _NO_IMAGES


def _is_labels(path: Path) -> bool:
    stem = formats.stem_of(path)
    ours = stem is not None and stem.casefold().endswith(folders.LABELS) and was_made_here(path)
    return ours or (stem is not None and folders.lies_beside_its_image(path))


def _of_image(path: Path, root: Path) -> Scan:
    """In the challenge's layout a case is named like its folder, and its results do not lie among its images."""
    name, place = formats.stem_of(path), path
    images = path.parent
    if images.name.casefold() == folders.IMAGES.casefold() and images.parent.name and path != root:
        same = [other for other in images.iterdir() if formats.stem_of(other) is not None]
        if len(same) == 1:
            name, place = images.parent.name, images.parent
    files = (path, path.with_suffix(".img")) if path.suffix.lower() == ".hdr" else (path,)
    return Scan(name, place, path, files, False, _key(path, root))


def _of_study(study: Study, root: Path) -> Scan:
    single = root.is_file()
    place = root if single else study.folder
    name = (place.stem if single else place.name) + (f"_{study.number}" if study.number else "")
    return Scan(name, place, place, study.files, True, study.key)


def _key(path: Path, root: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()


def only_one_study(scans: Sequence[Scan], root: Path) -> list[Scan]:
    """Scans where a folder that has but one DICOM study is that study, however deep the files lie."""
    root = root if root.name not in ("", "..") else root.resolve()
    if len(scans) != 1 or not scans[0].is_dicom or not root.is_dir() or not scans[0].source.is_dir():
        return list(scans)
    return [dataclasses.replace(scans[0], name=root.name, place=root)]
