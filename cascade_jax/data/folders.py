"""Finding cases in folders: in the challenge's layout, or files side by side.

<root>/<case>/Images/<any name>.nii.gz      the image
<root>/<case>/Contours/<any name>.nii.gz    its labels, absent in the challenge's test set
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from cascade_jax.data import formats
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import reading

IMAGES, CONTOURS = "Images", "Contours"
# Maps of where not to believe the labels: 1 minus the highest mean probability, and the share of folds that disagree.
DOUBT, DISAGREEMENT = "Doubt", "Disagreement"
CORRECTED = "Corrected"  # labels that a reader has corrected (`data.corrections`)
_OUR_FOLDERS = (IMAGES, CONTOURS, DOUBT, DISAGREEMENT, CORRECTED)
_OUR_FILES = ("confidence.csv", "expected_dice.csv", "labels.ctbl", "dseg.tsv", "phantom.json")
LABELS = "_seg"  # what the names of labels end in that lie beside their image, as `cascade-jax segment` puts them
_CHANNEL = "_0000"
_MOST_FOLDERS_DEEP = 3  # a cohort's files lie in <case>/Images


@dataclasses.dataclass(frozen=True)
class CaseFiles:
    """Where one case lies: its name, its image, and its labels or None where it has none."""

    name: str
    image: Path
    contour: Path | None


def find_cases(root, *, labelled: bool = False, faults: dict[str, str] | None = None) -> list[CaseFiles]:
    """The cases of a cohort in the challenge's layout, sorted by name.

    A case is a folder of any name with a folder `Images`, in whatever letter case, in it; the folder's name is the
    case's. What else lies in the root, such as the challenge's text files with clinical facts, is listed by
    `list_skipped`.

    Args:
        root: the cohort's folder.
        labelled: whether every case must have labels.
        faults: where given, takes what is wrong with single cases, by name, and they are left out; else it is raised.

    Raises:
        CaseError: the root is missing, no folder or holds no case; a case has no image or several; it has
            several contours, or none although `labelled`, or contours without an image; a name cannot be written down;
            two names differ only in upper and lower case.
    """
    root = Path(root)
    folders = _folders_with(root, IMAGES)
    if not folders:
        raise CaseError(root, f"holds no case: expected <case>/{IMAGES}/<image file>")
    for folder, contours in _folders_with(root, CONTOURS).items():
        if folder not in folders and _image_files(contours):
            with _collecting(faults, folder.name):
                raise CaseError(folder, f"has {CONTOURS} but no {IMAGES}")
    cases = []
    for folder, images in folders.items():
        with _collecting(faults, folder.name):
            cases.append(_case_in(folder, images, labelled))
    _refuse_duplicates(root, ((case.name, case.image) for case in cases))
    return cases


def _case_in(folder: Path, images: Path, labelled: bool) -> CaseFiles:
    check_name(folder, folder.name)
    subfolder = _subfolder(folder, CONTOURS)
    contours = _image_files(subfolder) if subfolder else []
    if len(contours) > 1:
        raise CaseError(subfolder, _several(contours))
    if labelled and not contours:
        raise CaseError(folder, f"has no contour: expected an image file in its {CONTOURS} folder")
    return CaseFiles(folder.name, _only_image_file(images), contours[0] if contours else None)


@contextlib.contextmanager
def _collecting(faults: dict[str, str] | None, name: str):
    """Puts what is wrong with one case into `faults`, if there is such a thing."""
    try:
        yield
    except CaseError as error:
        if faults is None:
            raise
        faults[name] = str(error)


def find_contours(root, *, faults: dict[str, str] | None = None) -> dict[str, Path]:
    """The labels of a cohort by case name, sorted, whether or not its images are there too.

    Args:
        root: a folder of `<case>/Contours/*.nii.gz`: predictions, or the challenge's own truth; or a folder of
            files of labels, each named like its case, as other programs write them.
        faults: as for `find_cases`.

    Raises:
        CaseError: the root is missing, no folder or holds no contours, or holds both files and cases; a `Contours`
            folder holds no file or several; a name cannot be written down; two names differ only in upper and lower
            case.
    """
    root = Path(root)
    folders, files = _folders_with(root, CONTOURS), _image_files(root, faults)
    if folders:
        files = [path for path in files if not lies_beside_its_image(path)]
    if not folders and not files:
        raise CaseError(root, f"holds no contours: expected <case>/{CONTOURS}/<image file> or <case>.nii.gz")
    _refuse_mixture(root, files, list(folders))
    if files:
        named = _named(files, faults)
        _refuse_duplicates(root, named)
        return dict(sorted(named))
    contours = {}
    for folder, subfolder in folders.items():
        with _collecting(faults, folder.name):
            check_name(folder, folder.name)
            contours[folder.name] = _only_image_file(subfolder)
    _refuse_duplicates(root, contours.items())
    return contours


def lies_beside_its_image(path: Path) -> bool:
    """Whether a file or folder is named like something beside it, a file of an image, an archive or a folder, and
    `_seg`: labels, and no image."""
    stem = formats.stem_of(path) or path.name
    image = stem[: -len(LABELS)]
    if not image or not stem.casefold().endswith(LABELS):
        return False
    names = (image, f"{image}.zip", *(image + suffix for suffix in formats.SUFFIXES))
    return any(os.path.exists(path.parent / name) for name in names)  # a `Path` raises where names are too long


def corrected_file(folder: Path) -> Path | None:
    """The image file in the folder `Corrected` of a case's folder, or None.

    Raises:
        CaseError: there are several.
    """
    subfolder = _subfolder(folder, CORRECTED)
    return _only_image_file(subfolder) if subfolder and _image_files(subfolder) else None


def find_inputs(path, *, faults: dict[str, str] | None = None) -> list[CaseFiles]:
    """The images to be segmented, sorted by name.

    Args:
        path: one file of an image, a folder of them (each a case named like its file, without nnU-Net's `_0000` if
            all have it; labels that lie beside their image are none), or a cohort in the challenge's layout.
        faults: as for `find_cases`.

    Raises:
        CaseError: the path is missing or holds nothing to read; a folder holds both files and cases; two
            cases would have one name, such as `a.nii` beside `a.nii.gz`; and as `find_cases`.
    """
    path = Path(path)
    with reading(path):
        is_file = path.is_file()
    if is_file:
        if formats.stem_of(path) is None:
            raise CaseError(path, f"is not an image file: expected a name that ends in {', '.join(formats.SUFFIXES)}")
        check_name(path, formats.stem_of(path))
        return [CaseFiles(formats.stem_of(path), path, None)]
    images = [image for image in _image_files(path, faults) if not lies_beside_its_image(image)]
    folders = _folders_with(path, IMAGES)
    _refuse_mixture(path, images, list(folders))
    if folders:
        return find_cases(path, faults=faults)
    if not images:
        deeper = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and _image_files(folder, {})]
        hint = f"; its folder {deeper[0].name} does hold such files" if deeper else ""
        raise CaseError(path, f"holds neither image files nor cases as <case>/{IMAGES}/<image file>{hint}")
    named = _named(images, faults)
    if all(name.endswith(_CHANNEL) for name, _ in named):  # nnU-Net's images, whose cases are named without
        named = [(name.removesuffix(_CHANNEL), image) for name, image in named]
        for name, image in named:
            with _collecting(faults, name):
                check_name(image, name)
        named = [(name, image) for name, image in named if name not in (faults or ())]
    _refuse_duplicates(path, named)
    return [CaseFiles(name, image, None) for name, image in sorted(named)]


def list_skipped(root, find: Callable) -> list[str]:
    """What lies in a folder of images or labels and is not used, a line each; files of other kinds in one together.

    Nothing is said of what this library puts beside labels, of hidden files, and of cases that have a fault.

    Args:
        root: a folder. A file has nothing beside it.
        find: `find_cases`, `find_inputs` or `find_contours`, which looked through it.

    Raises:
        CaseError: as `find`, but for faults of single cases.
    """
    root = Path(root)
    if not root.is_dir():
        return []
    faults: dict[str, str] = {}
    found = find(root, faults=faults)
    if isinstance(found, dict):
        files = list(found.values())
    else:
        files = [path for case in found for path in (case.image, case.contour) if path]
    used = set(files) | {path.with_suffix(".img") for path in files if path.suffix.lower() == ".hdr"}
    lines, others = [], []
    folders = [root]
    while folders:
        folder = folders.pop(0)
        if folder.name in _OUR_FOLDERS and folder != root and not used & set(_visible(folder)):
            continue
        for path in _visible(folder):
            if path in used or path.name in _OUR_FILES or path.name == f"{folder.name}.png":
                continue
            if folder == root and (path.name in faults or formats.stem_of(path) in faults):
                continue
            if path.is_dir():
                if len(path.relative_to(root).parts) < _MOST_FOLDERS_DEEP:
                    folders.append(path)
                else:
                    lines.append(f"{path}: is a folder in a folder of files")
            elif path.is_symlink() and not path.exists():
                lines.append(f"{path}: is a link to nothing")
            elif lies_beside_its_image(path):
                lines.append(f"{path}: is the labels of an image")
            elif formats.stem_of(path) is not None:
                lines.append(f"{path}: lies where no such file is looked for")
            elif path.name.lower().endswith((*formats.OTHER_FORMATS, ".img")):
                lines.append(f"{path}: is in a format that is not read")
            else:
                others.append(path)
    if others:
        number = "1 other file" if len(others) == 1 else f"{len(others)} other files"
        lines.append(f"{root}: {number}, such as {others[0].relative_to(root)}")
    return lines


def _visible(folder: Path) -> list[Path]:
    with reading(folder):
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _refuse_mixture(root: Path, files: list[Path], folders: list[Path]) -> None:
    if files and folders:
        raise CaseError(
            root, f"holds image files ({files[0].name}) beside case folders ({folders[0].name}): which are meant?"
        )


def _subfolder(folder: Path, name: str) -> Path | None:
    """The folder of that name in another, in whatever letter case."""
    if not folder.is_dir():
        return None
    found = [path for path in _visible(folder) if path.name.lower() == name.lower() and path.is_dir()]
    if len(found) > 1:
        raise CaseError(folder, f"holds the folders {found[0].name} and {found[1].name}: which is meant?")
    return found[0] if found else None


def _folders_with(root: Path, name: str) -> dict[Path, Path]:
    """{folder: its subfolder of that name} of the folders in the root that have one."""
    found = {folder: _subfolder(folder, name) for folder in _visible(root)}
    return {folder: subfolder for folder, subfolder in found.items() if subfolder}


def _image_files(folder: Path, faults: dict[str, str] | None = None) -> list[Path]:
    """The files of a folder that are images or labels by their names, sorted; what is none after all is a fault."""
    files = []
    for path in _visible(folder):
        if (name := formats.stem_of(path)) is None or path.is_dir():
            continue
        with _collecting(faults, name):
            if not path.exists():
                raise CaseError(path, "is a link to nothing")
            files.append(path)
    return files


def _only_image_file(folder: Path) -> Path:
    files = _image_files(folder)
    if not files:
        raise CaseError(folder, f"holds no image file ({', '.join(formats.SUFFIXES)})")
    if len(files) > 1:
        raise CaseError(folder, _several(files))
    return files[0]


def _several(files: list[Path]) -> str:
    return f"holds {len(files)} image files where one is expected: {', '.join(file.name for file in files)}"


def _named(files: list[Path], faults: dict[str, str] | None) -> list[tuple[str, Path]]:
    """The files with the names of their cases."""
    named = []
    for path in files:
        name = formats.stem_of(path)
        with _collecting(faults, name):
            check_name(path, name)
            named.append((name, path))
    return named


def check_name(path: Path, name: str) -> None:
    """Raises CaseError where a case's name could not be written into a table, or be a folder's."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise CaseError(path, "has a name that is not UTF-8; rename it") from None
    if not name.isprintable():
        raise CaseError(path, "has a name with characters that cannot be printed; rename it")
    if not name.strip():
        raise CaseError(path, "has no name before its ending; rename it")
    if name in (".", "..") or "/" in name:
        raise CaseError(path, "has a name that leads to another folder; rename it")


def _refuse_duplicates(root: Path, named_paths: Iterable[tuple[str, Path]]) -> None:
    """Upper and lower case are the same here, as they are to some file systems when results are written."""
    seen: dict[str, Path] = {}
    for name, path in named_paths:
        other = seen.setdefault(name.casefold(), path)
        if other != path:
            raise CaseError(
                root,
                f"holds two cases named {name}: {other.relative_to(root)} and {path.relative_to(root)}",
            )
