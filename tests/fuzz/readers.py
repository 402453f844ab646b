"""Every reader of a file that may come from anywhere: a sound file of its kind, and what reading it must give.

`check` holds any content against what is promised: a `CaseError` of one line that can be printed and names the file, or
a result that is valid; and nothing in the folder has changed.
"""

import dataclasses
import gzip
import io
import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import nibabel as nib
import numpy as np

from cascade_jax import bundle, weights
from cascade_jax.calibration import read_calibration
from cascade_jax.commands import study
from cascade_jax.data import corrections, emidec, folders, nnunet, outputs
from cascade_jax.data.case import LABEL_NAMES, CaseError
from cascade_jax.data.labels import EMIDEC, LabelTable
from cascade_jax.plan import Plan
from cascade_jax.quantify.orientations import read_orientations
from cascade_jax.report.confidence import columns, read_confidence
from tests.data import nifti_files

_CASES = ["A", "B"]


@dataclasses.dataclass(frozen=True)
class Reader:
    """How one kind of file is read.

    Attributes:
        name: of the file, in its folder.
        seed: makes the content of a sound one.
        read: reads it, given its path, and asserts that the result is valid.
        beside: makes what lies beside it, given its path.
    """

    name: str
    seed: Callable[[], bytes]
    read: Callable[[Path], object]
    beside: Callable[[Path], object] = lambda path: None


def check(reader: Reader, content: bytes) -> CaseError | None:
    """Reads any content as the reader's kind of file; returns what is said against it, None if it was read."""
    with tempfile.TemporaryDirectory() as top:
        path = Path(top, "in", reader.name)
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        reader.beside(path)
        before = _listing(Path(top))
        fault = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader.read(path)
        except CaseError as error:
            fault = error
            assert str(error).isprintable() and str(error).startswith(str(path.parent)), str(error)
            assert len(str(error)) < 10_000
        assert _listing(Path(top)) == before
        return fault


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """What lies in a folder and below, but for the results that `read` may write into `out`."""
    found = (path for path in folder.rglob("*") if path.relative_to(folder).parts[0] != "out")
    return {str(path): ((state := os.lstat(path)).st_size, state.st_mtime_ns) for path in found if not path.is_dir()}


# Images and labels


def nifti(array: np.ndarray, **fields) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return nifti_files.save(Path(folder, "a.nii"), array, **fields).read_bytes()


def _image() -> bytes:
    return nifti(nifti_files.voxels((6, 5, 3)).astype(np.float32), sform_code=1, srow_x=(1.25, 0, 0, 0))


def _with_extensions() -> bytes:
    image = nib.Nifti1Image(nifti_files.voxels(), np.diag([*nifti_files.PIXDIM, 1]))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"words"))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("dicom", b"\x10\x00\x10\x00PN\x04\x00A^B "))
    return image.to_bytes()


def _read_image(path: Path) -> None:
    case = emidec.read_case(folders.CaseFiles("case", path, None))
    assert case.image.dtype == np.float32 and case.image.ndim == 3 and np.isfinite(case.image).all()
    assert all(value > 0 for value in case.spacing[1:]) and (case.spacing[0] > 0 or len(case.image) == 1)
    labels = np.zeros(case.image.shape, np.uint8)
    labels[0, 0, 0] = 3
    written = emidec.write_labels(path.parents[1] / "out", labels, case)
    np.testing.assert_array_equal(emidec.read_labels(written)[0], labels)


def _read_labels(path: Path) -> None:
    labels, _ = emidec.read_labels(path)
    assert labels.dtype == np.uint8 and labels.ndim == 3 and labels.max() < len(LABEL_NAMES)


def _pair() -> bytes:
    header = nib.Nifti1Pair(nifti_files.voxels().astype(np.float32), np.diag([*nifti_files.PIXDIM, 1])).header
    return header.binaryblock


def _write_img(path: Path) -> None:
    path.with_suffix(".img").write_bytes(nifti_files.voxels().astype(np.float32).tobytes())


def _nrrd() -> bytes:
    lines = ["NRRD0004", "type: float", "dimension: 3", "space: left-posterior-superior", "sizes: 6 5 3"]
    lines += ["space directions: (1.25,0,0) (0,1.5,0) (0,0,10)", "endian: little", "encoding: raw"]
    lines += ["space origin: (0,0,0)", "", ""]
    return "\n".join(lines).encode() + nifti_files.voxels().astype(np.float32).tobytes()


def _meta_image() -> bytes:
    lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
    lines += ["CompressedData = False", "TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 0 0 0"]
    lines += ["ElementSpacing = 1.25 1.5 10", "DimSize = 6 5 3", "ElementType = MET_FLOAT", "ElementDataFile = LOCAL"]
    return ("\n".join(lines) + "\n").encode() + nifti_files.voxels().astype(np.float32).tobytes()


# DICOM


def dicom_series(*, enhanced: bool = False, **fields) -> bytes:
    """One file: a slice of 8 x 8 pixels, or several in one, with attributes set as they are given."""
    from tests.data import dicom_series as files

    dataset = files.blank(files.ENHANCED if enhanced else files.CLASSIC, "1.2.3", 5, "PSIR", (8, 8))
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [*files.ACROSS, *files.DOWN]
    dataset.PixelSpacing, dataset.SliceThickness = [1.5, 1.5], 8.0
    dataset.RescaleSlope, dataset.RescaleIntercept = 0.5, -50.0
    dataset.PixelData = np.arange(64, dtype=np.uint16).tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def _read_dicom(path: Path) -> None:
    from cascade_jax.data import dicom
    from cascade_jax.data.dicom_studies import study_of

    assert isinstance(study_of(path), str | None)
    series, lines = dicom.choose_series(path)
    case = dicom.read_series(path, series, "case")
    assert np.isfinite(case.image).all() and all(value > 0 for value in case.spacing)
    assert all(line.isprintable() for line in lines)


# Tables and records


def _json(value) -> bytes:
    return json.dumps(value).encode()


def _dataset() -> bytes:
    return _json({"labels": {name: value for value, name in enumerate(LABEL_NAMES)}, "file_ending": ".nii.gz"})


def _read_dataset(path: Path) -> None:
    values = nnunet.label_values(path.parent, {})
    assert all(type(theirs) is int and ours in range(len(LABEL_NAMES)) for theirs, ours in values.items())
    labels = np.zeros(4)
    for theirs in values:
        assert not (labels == theirs).all() or theirs == 0


def _splits() -> bytes:
    return _json([{"train": ["B"], "val": ["A"]}, {"train": ["A"], "val": ["B"]}])


def _read_splits(path: Path) -> None:
    assert sorted(name for fold in nnunet.read_splits(path, _CASES) for name in fold) == _CASES


def _table() -> bytes:
    return _json(EMIDEC.to_json())


def _read_table(path: Path) -> None:
    """As `bundle.read_model` and `calibration.read_calibration` read one that is part of their file."""
    from cascade_jax.data.files import read_json

    values = read_json(path)
    try:
        table = LabelTable.from_json(values)
    except (KeyError, TypeError, ValueError, AttributeError):
        return
    assert LabelTable.from_json(json.loads(json.dumps(table.to_json()))) == table
    for target in table.targets:
        assert table.replacement(target) in range(len(table.names)) and target.isprintable()


def _model() -> bytes:
    return (bundle.folder_of("phantom") / bundle.MODEL_FILE).read_bytes()


def _read_model(path: Path) -> None:
    model = bundle.read_model(path.parent)
    assert Plan.from_json(json.loads(json.dumps(model["plan"].to_json()))) == model["plan"]
    assert model["folds"] and model["licence"].isprintable() and isinstance(model["mirror"], bool)


def _weights() -> bytes:
    content = io.BytesIO()
    np.savez(content, **{"stage1/a/kernel": np.ones((2, 3), np.float16), "stage2/b": np.zeros(2, np.float16)})
    return content.getvalue()


def _read_weights(path: Path) -> None:
    for leaf in jax.tree.leaves(weights.read_weights(path)):
        assert leaf.dtype == np.float32 and np.isfinite(leaf).all()


def _calibration() -> bytes:
    linear = {"intercept": 0.5, "weights": [0.1, 0.2, 0.3]}
    interval = {"low": -0.5, "high": 0.5}
    targets = {
        target: {
            "dice": linear,
            "drawn": interval,
            "left_out": interval,
            "presence": None if target == EMIDEC.main else linear | {"weights": [0.1, 0.2]},
            "threshold": None if target == EMIDEC.main else 0.4,
        }
        for target in EMIDEC.targets
    }
    from cascade_jax.account import APPEARANCE

    count = len(APPEARANCE)
    appearance = {"mean": [0.0] * count, "scale": [1.0] * count, "precision": np.eye(count).tolist(), "limit": 4.0}
    values = {"table": EMIDEC.to_json(), "targets": targets, "appearance": appearance}
    return _json(values | {"doubtful_below": 0.7, "cases": 100})


def _read_calibration(path: Path) -> None:
    from cascade_jax.account import APPEARANCE
    from tests.accounts import account, target_account

    calibration = read_calibration(path, EMIDEC)
    of = account(**{target: target_account(0.8, 12.0, 0.9) for target in EMIDEC.targets})
    said = calibration.confidence(of, calibration.decide(of), dict.fromkeys(EMIDEC.targets, 12.0))
    assert all(0 <= value <= 1 for value in (*said.expected_dice.values(), *said.probability.values()))
    assert all(0 <= low <= 12 <= high < math.inf for low, high in said.interval_ml.values())
    assert calibration.appearance.distance(dict.fromkeys(APPEARANCE, 1.0)) >= 0


def _confidence() -> bytes:
    numbers = ["0.9", "12.5", "10.0", "15.0", "0.8"] * len(EMIDEC.targets)
    return "\r\n".join([",".join(columns(EMIDEC)), ",".join(["A", *numbers, "1.5", "yes", "small, it is"])]).encode()


def _read_confidence(path: Path) -> None:
    for one in read_confidence(path.parent, EMIDEC).values():
        values = [*one.expected_dice.values(), *one.volume_ml.values(), *one.probability.values(), one.distance]
        assert not np.isinf(values).any()


def _orientations() -> bytes:
    return b"case,insertion_degrees,base_first,mirrored\r\nA,120.5,yes,no\r\nB,,,\r\n"


def _read_orientations(path: Path) -> None:
    for one in read_orientations(path).values():
        assert one.insertion is None or math.isfinite(one.insertion)
        assert {one.base_first, one.mirrored} <= {True, False, None}


def _correction() -> bytes:
    save = {"reader": "R", "time": "2026-01-02T03:04:05+00:00", "prediction_sha256": "0" * 64, "prediction": "A.nii.gz"}
    save |= {"labels_sha256": "0" * 64, "changed_voxels": {}, "insertion_degrees": 10.0}
    return _json({"case": "A", "saves": [save | {"inferior_insertion_degrees": None}]})


def _corrected(path: Path) -> None:
    _write_labels(path.with_name("A.nii.gz"))


def _write_labels(path: Path) -> None:
    path.write_bytes(gzip.compress(nifti(np.zeros((6, 5, 3), np.uint8)), 1))


def _read_correction(path: Path) -> None:
    correction = corrections.find_correction(path.parents[2], "A")
    assert correction is not None and str(correction).isprintable()
    for angle in (correction.insertion, correction.inferior_insertion):
        assert angle is None or math.isfinite(angle)


def _record() -> bytes:
    return _json({"made": {"a.csv": "0" * 64, "b.csv": None}})


def _read_record(path: Path) -> None:
    outputs.refuse_to_replace(path.parent, ["b.csv"])
    assert outputs.was_made_here(path.parent / "a.csv") in (True, False)


def _study() -> bytes:
    row = {"case": "A", "slices": 7, "infarction_ml": 12.5, "doubt": "", "labels": "A_seg.nii.gz", "failed": ""}
    return _json({"cases": {"scan": {"case": "A", "place": "A", "made_of": "0", "row": row}}})


def _read_study(path: Path) -> None:
    for entry in study._read_record(path.parent).values():
        assert Path(entry["case"]).name == entry["case"] and entry["case"].isprintable()
        assert study._is_done(entry, "0", path.parent) in (True, False)


READERS = {
    "image": Reader("a.nii", _image, _read_image),
    "image_with_extensions": Reader("a.nii", _with_extensions, _read_image),
    "packed_image": Reader("a.nii.gz", lambda: gzip.compress(_image(), 1, mtime=0), _read_image),
    "labels": Reader("a.nii", lambda: nifti(np.arange(90).reshape(6, 5, 3).astype(np.int16) % 5), _read_labels),
    "pair": Reader("a.hdr", _pair, _read_image, _write_img),
    "nrrd": Reader("a.nrrd", _nrrd, _read_image),
    "meta_image": Reader("a.mha", _meta_image, _read_image),
    "dicom": Reader("a.dcm", dicom_series, _read_dicom),
    "nnunet_dataset": Reader("dataset.json", _dataset, _read_dataset),
    "nnunet_splits": Reader("splits_final.json", _splits, _read_splits),
    "label_table": Reader("table.json", _table, _read_table),
    "model": Reader("model.json", _model, _read_model),
    "weights": Reader("weights.npz", _weights, _read_weights),
    "calibration": Reader("confidence.json", _calibration, _read_calibration),
    "confidence": Reader("confidence.csv", _confidence, _read_confidence),
    "orientations": Reader("orientations.csv", _orientations, _read_orientations),
    "correction": Reader("A/Corrected/A.json", _correction, _read_correction, _corrected),
    "record": Reader(".cascade_jax.json", _record, _read_record),
    "study": Reader("study.json", _study, _read_study),
}
