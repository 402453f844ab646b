"""Files made to do harm: sizes that cannot be, bombs, names and links that lead elsewhere."""

import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from cascade_jax import bundle
from cascade_jax.commands.study import _read_record
from cascade_jax.data import corrections, dicom_files, emidec, files, folders, nnunet, outputs, scans
from cascade_jax.data.case import Case, CaseError
from cascade_jax.quantify.orientations import read_orientations
from tests.data import nifti_files
from tests.fuzz.readers import READERS, check, dicom_series, nifti


def fault(name, content):
    error = check(READERS[name], content)
    assert error is not None
    return error.fault


# What a header announces


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "announces 32767 x 32767 x 32767 voxels"),
        ({"dim": [3, 4096, 4096, 2048, 1, 1, 1, 1]}, "announces"),
        ({"dim": [3, -6, 5, 3, 1, 1, 1, 1]}, "empty dimension"),
        ({"dim": [-3, 6, 5, 3, 1, 1, 1, 1]}, "dimensions where 3"),
        ({"pixdim": (-1.25, 1.5, 10)}, "no valid voxel size"),
        ({"pixdim": (np.nan, np.inf, 10)}, "no valid voxel size"),
        ({"pixdim": (1e30, 1e30, 1e30)}, "no short-axis stack"),
        ({"vox_offset": 1e30}, "vox_offset"),
        ({"vox_offset": np.nan}, "vox_offset"),
        ({"datatype": 32767}, "unknown data type"),
        ({"datatype": 2304, "bitpix": 32}, "not real numbers"),
    ],
)
@pytest.mark.parametrize("kind", ["image", "pair"])
def test_a_header_that_announces_what_cannot_be_is_refused(fields, words, kind):
    content = nifti(nifti_files.voxels().astype(np.float32), **fields)
    said = fault(kind, content if kind == "image" else content[:344] + b"ni1\0" + bytes(4))
    assert words in said or kind == "pair"


def test_the_other_byte_order_is_read_and_a_mixed_one_refused():
    content = bytearray(nifti(nifti_files.voxels().astype(">f4")))
    assert check(READERS["image"], bytes(content)) is None or content[:4] != b"\x00\x00\x01\x5c"
    content[40:56] = np.frombuffer(content[40:56], "<i2").byteswap().tobytes()
    assert fault("image", bytes(content))


@pytest.mark.parametrize("kept", [1, 2, 10, 18, 100, -9, -1])
def test_a_cut_gzip_stream_is_refused(kept):
    assert "trunc" in fault("packed_image", READERS["packed_image"].seed()[:kept]) or kept < 10


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.nii")
    with pytest.raises(CaseError, match="no ordinary file"):
        emidec.read_geometry(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"Rows": 65535, "Columns": 65535}, "65535 x 65535 pixels"),
        ({"Rows": 0}, "0 x 8 pixels"),
        ({"NumberOfFrames": 10**9}, "1e+09 frames of 8 x 8"),
        ({"NumberOfFrames": -1}, "-1 frames"),
        ({"Rows": 2048, "Columns": 2048, "NumberOfFrames": 9}, "9 frames of 2048 x 2048"),
        ({"BitsAllocated": 65535}, "is cut off"),
        ({"SamplesPerPixel": 65535}, "is cut off"),
    ],
)
def test_a_dicom_image_that_announces_what_cannot_be_is_refused(fields, words):
    pytest.importorskip("pydicom")
    assert words in fault("dicom", dicom_series(**fields))


# Bombs. Each is small, and would take more than all memory if it were believed.

_BOMBS = """
import sys
from pathlib import Path
from cascade_jax.data import dicom_files, dicom_studies, emidec, folders
from cascade_jax.data.case import CaseError
folder = Path(sys.argv[1])
for path in sorted(folder.iterdir()):
    try:
        if path.suffix in (".zip", ".dcm"):
            if path.suffix == ".dcm":
                dicom_studies.study_of(path)
            list(dicom_files.dicom_contents(path, dicom_files.SkippedFiles()))
        else:
            emidec.read_case(folders.CaseFiles("a", path, path))
        raise SystemExit(f"{path} was read")
    except CaseError as error:
        print(error)
# Not ru_maxrss, which on Linux begins at the peak of the process that started this one.
print(*(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def _packed(content: bytes, zeros: int) -> bytes:
    """A gzip stream of content and zeros, of which only one megabyte is ever made."""
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(content)] + [packer.compress(bytes(2**20)) for _ in range(zeros >> 20)]
    return b"".join([*parts, packer.flush()])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_bombs_take_less_than_two_gigabytes(tmp_path):
    whole = {"dim": [3, 512, 512, 128, 1, 1, 1, 1], "pixdim": (1, 1, 3)}
    largest = nifti(np.full((1, 1, 1), 0.5), **whole)
    (tmp_path / "largest.nii.gz").write_bytes(_packed(largest, 2**25 * 8))
    larger = nifti(np.zeros((1, 1, 1)), **whole | {"dim": [3, 512, 512, 160, 1, 1, 1, 1]})
    (tmp_path / "larger.nii.gz").write_bytes(_packed(larger, 2**24))
    (tmp_path / "extension.nii.gz").write_bytes(_packed(nifti(nifti_files.voxels(), vox_offset=2**40), 2**24))
    pydicom = pytest.importorskip("pydicom")
    head = dicom_series()
    with zipfile.ZipFile(tmp_path / "scan.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(9):
            with archive.open(str(number), "w") as member:
                member.write(head)
                for _ in range(32):
                    member.write(bytes(2**20))
    dataset = pydicom.dcmread(io.BytesIO(head))
    meta = head[: head.index(b"\x08\x00\x05\x00") if b"\x08\x00\x05\x00" in head else head.index(b"\x08\x00\x08\x00")]
    del dataset
    explicit, deflated = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"
    meta = meta.replace(b"UI\x14\x00" + explicit, b"UI\x16\x00" + deflated)
    body = _packed(b"\x10\x00\x10\x00UT\0\0\0\0\0\x7f", 2**29)[10:-8]
    (tmp_path / "deflated.dcm").write_bytes(meta + body)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2**23
    result = subprocess.run(
        [sys.executable, "-c", _BOMBS, str(tmp_path)], capture_output=True, text=True, check=False, timeout=500
    )
    assert result.returncode == 0, result.stderr + result.stdout
    *lines, memory = result.stdout.splitlines()
    words = ["inflates to more than", "vox_offset", "announces 512 x 512 x 160", "holds the value 0.5", "unpacks to"]
    for word, line in zip(words, lines, strict=True):
        assert word in line
    assert int(memory) < 2 * 10**6  # kilobytes


@pytest.mark.parametrize("layout", ["group length", "late", "kind"])
def test_a_deflated_file_that_hides_where_it_begins_is_refused(layout, tmp_path):
    """pydicom finds the place whatever the group says of its length."""
    content = b"\x02\x00\x00\x00UL\x04\x00" + (10**9).to_bytes(4, "little")
    if layout == "late":
        content += b"\x02\x00\x02\x01OB\0\0" + (2000).to_bytes(4, "little") + bytes(2000)
    kind = b"XX" if layout == "kind" else b"UI"
    content += b"\x02\x00\x10\x00" + kind + b"\x16\x00" + dicom_files.DEFLATED + _packed(b"", 2**21)[10:-8]
    with pytest.raises(CaseError, match=r"inflates to more than|in doubt"):
        dicom_files.check_deflated(tmp_path, bytes(128) + b"DICM" + content, 2**20)
    with pytest.raises(CaseError, match=r"inflates to more than|in doubt"):
        dicom_files.check_deflated(tmp_path, content, 2**20)


@pytest.mark.parametrize("member", ["packed", "header", "doubled"])
def test_an_archive_of_weights_that_announces_more_than_it_holds_is_refused(member):
    content, array = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(2**20, np.float16))
    header = b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f2', 'fortran_order': False, 'shape': (1000000000000,)}    "
    with zipfile.ZipFile(content, "w") as archive:
        if member == "packed":
            archive.writestr("a.npy", array.getvalue(), zipfile.ZIP_DEFLATED)
        elif member == "header":
            archive.writestr("a.npy", header.ljust(79) + b"\n")
        else:
            archive.writestr("a.npy", array.getvalue())
            archive.filelist[0].file_size *= 1000
    words = {"packed": "announces more", "header": "an array is damaged", "doubled": "announces more"}
    assert words[member] in fault("weights", content.getvalue())


def test_pickled_weights_run_no_code(tmp_path):
    content = io.BytesIO()
    np.savez(content, a=np.array([_Harm(tmp_path / "harm")], object))
    assert "not real numbers" in fault("weights", content.getvalue())
    assert not (tmp_path / "harm").exists()


class _Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.name.endswith(".json")])
def test_json_nested_a_hundred_thousand_deep_is_refused(name, opening):
    assert fault(name, opening.encode() * 100_000)
    assert fault(name, (b"[" * 900 + b"]" * 900))


@pytest.mark.parametrize("number", ["1e400", "NaN", "-Infinity", "9" * 400, "9" * 5000, "-1", "true", '"1"', "null"])
def test_a_number_that_is_none_is_no_part_of_a_model(number):
    sound = READERS["model"].seed().decode()
    spacing = json.dumps(json.loads(sound)["plan"]["spacing"][0])
    assert fault("model", sound.replace(spacing, number, 1).encode())
    values = json.loads(sound)
    for key in ("folds", "rules"):
        odd = json.dumps(values | {key: "ODD"}).replace('"ODD"', f"[{number}]")
        assert fault("model", odd.encode())


def test_a_text_larger_than_any_is_not_read_on(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(CaseError, match="is larger than 32 MB"):
        files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["confidence", "orientations"])
def test_a_table_with_nul_or_a_million_columns_is_refused_or_read(name):
    first, rest = READERS[name].seed().split(b"\n", 1)
    assert fault(name, first.strip() + b",x" * 10**6 + b"\n" + rest)
    check(READERS[name], first + b"\n" + rest.replace(b"A", b"\0"))
    assert fault(name, first + b'\n"' + b"x" * 200_000)


# Names


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "\udcff", "a\u202eb", "a\0b"])
def test_a_fault_is_one_line_that_can_be_printed_whatever_a_file_is_called(name):
    error = CaseError(Path("in", name), f"holds {name}")
    assert str(error).isprintable() and error.fault.isprintable()
    assert error.path == f"in/{name}"


def test_a_fault_quotes_no_whole_file():
    assert len(str(CaseError("a", "x" * 10**6))) < 2100


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "a\u202eb"])
def test_a_case_whose_name_cannot_be_printed_is_refused(tmp_path, name):
    nifti_files.save_case(tmp_path, name)
    with pytest.raises(CaseError, match="characters that cannot be printed") as error:
        folders.find_cases(tmp_path)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["x" * 251 + "_seg", "x" * 250])
def test_names_as_long_as_they_may_be_are_no_fault_of_a_folder(tmp_path, name):
    (tmp_path / name).mkdir()
    assert not folders.lies_beside_its_image(tmp_path / name)
    nifti_files.save(tmp_path / "a.nii", nifti_files.voxels())
    assert [scan.name for scan in scans.find_scans(tmp_path)[0]] == ["a"]


def test_a_result_whose_name_is_too_long_is_a_fault_of_its_case(tmp_path):
    with pytest.raises(CaseError, match="cannot be written: File name too long"):
        outputs.refuse_to_replace(tmp_path, [f"{'x' * 300}_seg.nii.gz"])


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_a_raw_dataset_is_not_written_outside_the_cohort(tmp_path, name):
    raw = tmp_path / "raw"
    nifti_files.save(raw / "imagesTr" / f"{name}_0000.nii.gz", nifti_files.voxels())
    nifti_files.save(raw / "labelsTr" / f"{name}.nii.gz", np.zeros((6, 5, 3)))
    (raw / "dataset.json").write_bytes(READERS["nnunet_dataset"].seed())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CaseError, match="rename it"):
        nnunet.import_dataset(raw, tmp_path / "out", {}, lambda items, _: items)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_image_named_by_its_channel_alone_is_a_fault(tmp_path):
    nifti_files.save(tmp_path / "_0000.nii.gz", nifti_files.voxels())
    with pytest.raises(CaseError, match="no name before its ending"):
        folders.find_inputs(tmp_path)
    nifti_files.save(tmp_path / "b_0000.nii.gz", nifti_files.voxels())
    faults = {}
    assert [case.name for case in folders.find_inputs(tmp_path, faults=faults)] == ["b"]
    assert len(faults) == 1


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "..", "a\nb", "", 3, "a/b"])
def test_a_study_writes_no_file_by_a_name_that_leads_elsewhere(tmp_path, name):
    record = json.loads(READERS["study"].seed())
    record["cases"]["scan"]["case"] = name
    (tmp_path / "study.json").write_text(json.dumps(record))
    with pytest.raises(CaseError, match=r"study\.json: is damaged"):
        _read_record(tmp_path)


def test_line_breaks_in_a_tables_name_stay_out_of_its_fault(tmp_path):
    (tmp_path / "a.csv").write_text('case,insertion_degrees\n"A\nB",1\n"A\nB",2\n')
    with pytest.raises(CaseError, match=r"line 5 has A\\nB again"):
        read_orientations(tmp_path / "a.csv")


# Links


def test_nothing_is_written_through_a_link_out_of_the_output(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "A").symlink_to(tmp_path / "elsewhere")
    for name in ("A/Contours/A.nii.gz", "../a.csv", str(tmp_path / "a.csv")):
        with (
            pytest.raises(CaseError, match="outside the output"),
            outputs.recording_outputs(tmp_path / "out", [name]),
        ):
            (tmp_path / "out" / name).write_text("")
    (tmp_path / "out" / "loop").symlink_to("loop")
    with pytest.raises(CaseError):
        outputs.refuse_to_replace(tmp_path / "out", ["loop/a"])
    assert not any((tmp_path / "elsewhere").iterdir())
    (tmp_path / "link").symlink_to(tmp_path / "out")  # the output itself may be one
    outputs.refuse_to_replace(tmp_path / "link", ["b/c.csv"])


def test_a_partial_file_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f".a.txt.{os.getpid()}.partial").symlink_to(tmp_path / "mine")
    files.write_text(tmp_path / "a.txt", "theirs")
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "a.txt").read_text() == "theirs"


def test_a_record_of_corrections_without_labels_is_not_built_upon(tmp_path):
    case = Case("A", nifti_files.voxels().transpose(2, 1, 0).astype(np.float32), None, (10.0, 1.5, 1.25))
    labels = np.zeros(case.image.shape, np.uint8)
    contour = emidec.write_labels(tmp_path, labels, case)
    record = tmp_path / "A" / "Corrected" / "A.json"
    record.parent.mkdir()
    for content in ("[]", '{"saves": 3}', '{"saves": []}', '{"saves": [{"reader": 1}]}'):
        record.write_text(content)
        with pytest.raises(CaseError, match=r"A\.json: is damaged"):
            corrections.save_correction(tmp_path, case, labels, labels, contour, reader="R")
        assert record.read_text() == content and len(list(record.parent.iterdir())) == 1


def test_a_matlab_file_beside_a_pair_is_not_unpacked(tmp_path):
    (tmp_path / "a.img").write_bytes(bytes(360))
    (tmp_path / "a.hdr").write_bytes(READERS["pair"].seed()[:344] + bytes(4))
    (tmp_path / "a.mat").write_bytes(gzip.compress(bytes(2**27), 1))
    with pytest.raises(CaseError, match=r"a\.mat: is no affine"):
        emidec.read_geometry(tmp_path / "a.hdr")


def test_the_box_of_weights_is_read_within_all_bounds():
    assert bundle.read_model("phantom")["folds"]
