"""What a folder or an archive holds is read, counted or named; nothing is left out without a word."""

import os
import zipfile

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from cascade_jax.data import dicom, dicom_files
from cascade_jax.data.case import CaseError
from tests.data.dicom_series import (
    PATIENT,
    change,
    check,
    choose,
    read,
    refused,
    write_classic,
    write_enhanced,
    write_localizer,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of what is done to files here


def test_a_damaged_archive_is_named(case, tmp_path):
    write_classic(tmp_path / "in", case)
    path = tmp_path / "scan.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(next((tmp_path / "in").iterdir()), "one")
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(CaseError, match=r"scan\.zip: cannot be read: it is encrypted or damaged"):
        choose(path)


@pytest.mark.parametrize("kept", [135, 320, 500, 800, 1100, -2])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_that_breaks_off_is_named_and_not_left_out(case, tmp_path, kept, zipped):
    write_classic(tmp_path / "in", case)
    path = sorted((tmp_path / "in").iterdir())[0]
    path.write_bytes(path.read_bytes()[:kept])
    source = tmp_path / "in"
    if zipped:
        source = tmp_path / "scan.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in (tmp_path / "in").iterdir():
                archive.write(file, f"any/{file.name}")
    named = r"scan\.zip/file 1 of \d+" if zipped else f"in/{path.name}"
    with pytest.raises(CaseError, match=f"{named}: is cut off"):
        choose(source)


def test_a_compressed_file_that_breaks_off_is_named(case, tmp_path):
    write_classic(tmp_path, case)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(path)
    check(dicom.read_series(tmp_path, choose(tmp_path), "case"), case)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CaseError, match=f"{path.name}: is cut off"):
        choose(tmp_path)


@pytest.mark.parametrize("left", ["no preamble", "no prefix", "no preamble and no file meta"])
@pytest.mark.parametrize("files", ["all", "one"])
def test_files_without_the_prefix_are_read(case, tmp_path, left, files):
    write_classic(tmp_path, case)
    for path in sorted(tmp_path.iterdir())[: None if files == "all" else 1]:
        content = path.read_bytes()
        if left == "no prefix":
            content = content[:128] + bytes(4) + content[132:]
        else:
            meta = int.from_bytes(content[140:144], "little") + 144
            content = content[132 if left == "no preamble" else meta :]
        path.write_bytes(content)
    found, lines = read(tmp_path)
    assert not lines
    np.testing.assert_allclose(found.image, case.image, atol=0.26)


def test_files_that_are_not_used_are_counted_and_numbered_by_reason(case, tmp_path):
    name = PATIENT[0]
    write_classic(tmp_path / "m", case)
    write_classic(tmp_path / "z", case, 8, skip=range(2, 20), Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    (tmp_path / f"a {name}.txt").write_text("no DICOM")
    with zipfile.ZipFile(tmp_path / f"b {name}.zip", "w") as archive:
        archive.writestr("x", "y")
    (tmp_path / "n").mkdir()
    os.mkfifo(tmp_path / "n" / "pipe")
    found, lines = read(tmp_path)
    assert found.image.shape == case.image.shape
    assert sorted(lines) == [
        "skipped 1 of 11 files: an archive, to be unpacked or given alone (by order of name: 2)",
        "skipped 1 of 11 files: no ordinary file (by order of name: 9)",
        "skipped 1 of 11 files: not DICOM (by order of name: 1)",
        "skipped 2 of 11 files: no MR image (by order of name: 10, 11)",
    ]
    for path in (tmp_path / "m").iterdir():
        path.unlink()
    fault = refused(tmp_path)
    assert fault.startswith("holds no MR images in DICOM files: skipped 1 of 5 files: not DICOM")


def test_links_are_followed_and_one_without_a_target_is_not_skipped(case, tmp_path):
    write_classic(tmp_path / "store", case)
    (tmp_path / "in").mkdir()
    for path in (tmp_path / "store").iterdir():
        (tmp_path / "in" / path.name).symlink_to(path)
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in", target_is_directory=True)
    assert read(tmp_path / "in")[0].image.shape == case.image.shape
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "folder").symlink_to(tmp_path / "store", target_is_directory=True)
    assert read(tmp_path / "linked")[0].image.shape == case.image.shape
    path.unlink()
    assert refused(tmp_path / "in") == "is a link without a target"


def test_what_cannot_be_read_is_not_skipped(case, tmp_path, monkeypatch):
    write_classic(tmp_path / "in", case)
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    (tmp_path / "in" / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", scandir)
    assert refused(tmp_path / "in") == "cannot be read: Permission denied"


def test_names_that_are_not_unicode_and_members_that_lead_out_of_an_archive_are_read(case, tmp_path):
    write_classic(tmp_path / "in", case)
    (tmp_path / "in" / "0_5").rename(os.fsdecode(os.fsencode(tmp_path / "in") + b"/\xe9t\xe9"))
    assert read(tmp_path / "in")[0].image.shape == case.image.shape
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for index, path in enumerate((tmp_path / "in").iterdir()):
            archive.writestr(f"../../{index}", path.read_bytes())
        archive.writestr("x", b"of no name")
    content = (tmp_path / "scan.zip").read_bytes()
    for mark in (b"PK\x01\x02", b"PK\x03\x04"):
        at = content.rindex(mark) + (28 if mark == b"PK\x01\x02" else 26)
        content = content[:at] + b"\0\0\1\0" + content[at + 4 :]  # the name is something else
    (tmp_path / "scan.zip").write_bytes(content)
    before = sorted(tmp_path.parent.rglob("*"))
    assert read(tmp_path / "scan.zip")[0].image.shape == case.image.shape
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_one_file_of_many_frames_may_be_given_by_itself(case, tmp_path):
    write_enhanced(tmp_path / "one", case, list(range(len(case.image))))
    np.testing.assert_allclose(read(tmp_path / "one")[0].image, case.image, atol=0.26)


def test_a_file_that_announces_more_than_a_scan_has_is_not_read(case, tmp_path, monkeypatch):
    write_classic(tmp_path / "in", case)
    with zipfile.ZipFile(tmp_path / "scan.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0", bytes(10**6))  # not DICOM, and therefore no matter how large
        for path in (tmp_path / "in").iterdir():
            archive.writestr(path.name, path.read_bytes() + (bytes(10**7) if path.name == "0_5" else b""))
    monkeypatch.setattr(dicom_files, "LARGEST_FILE", 10**6)
    with pytest.raises(
        CaseError, match=r"scan\.zip/file 2 of 7: announces 0\.00932 GB, more than a scan of a heart has"
    ):
        read(tmp_path / "scan.zip")
    monkeypatch.setattr(dicom_files, "LARGEST_TOTAL", 30_000)
    with pytest.raises(CaseError, match=r"in: holds more than .* of DICOM files: give it one study at a time"):
        read(tmp_path / "in")


def test_a_deflated_file_is_inflated_only_as_far_as_a_scan_goes(case, tmp_path, monkeypatch):
    write_classic(tmp_path, case)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
    np.testing.assert_allclose(read(tmp_path)[0].image, case.image, atol=0.26)
    monkeypatch.setattr(dicom_files, "LARGEST_FILE", 6000)
    assert "inflates to more than" in refused(tmp_path)


def test_dicom_is_recognised_by_content(case, tmp_path):
    write_classic(tmp_path / "in", case, skip=range(2, 20))
    assert dicom_files.holds_dicom_and_other_images(tmp_path / "in") == (True, False)
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        archive.writestr("README", "text")
        for path in (tmp_path / "in").iterdir():
            archive.writestr(path.name, path.read_bytes())
    assert dicom_files.holds_dicom_and_other_images(tmp_path / "scan.zip") == (True, False)
    path.write_bytes(path.read_bytes()[132:])
    assert dicom_files.holds_dicom_and_other_images(path) == (True, False)
    # Results beside NIfTI images are no source.
    (tmp_path / "results").mkdir()
    write_localizer(tmp_path / "results")
    change(tmp_path / "results" / "localizer", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    dataset = pydicom.dcmread(tmp_path / "results" / "localizer")
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.save_as(tmp_path / "results" / "localizer")
    (tmp_path / "results" / "labels.nii.gz").write_bytes(b"")
    assert dicom_files.holds_dicom_and_other_images(tmp_path / "results") == (False, True)
    assert dicom_files.holds_dicom_and_other_images(tmp_path / "nowhere") == (False, False)
