"""Readers of files that may come from anywhere, given sound files with anything in them changed: a line that names the
file, or a valid result."""

import copy
import functools
import io
import json
import math
import resource

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.readers import READERS, check

_MOST_MEMORY_KB = 2 * 2**20
_NEEDS = {"dicom": "pydicom", "nrrd": "SimpleITK", "meta_image": "SimpleITK"}
_DEEP = functools.reduce(lambda inner, _: [inner], range(100), 0)
_ODD_VALUES = [
    None,
    True,
    -1,
    0,
    0.5,
    3,
    256,
    10**400,
    -(10**30),
    1e308,
    math.inf,
    -math.inf,
    math.nan,
    "",
    "x",
    "..",
    "a/b",
]
_ODD_VALUES += [
    "../../x",
    "\n",
    "a\x1b[2J\nb",
    "\ud800",
    "\u202e",
    "x" * 300,
    [],
    {},
    [[]],
    [1, 2],
    ["A"],
    {"a": 1},
    _DEEP,
]
_ODD_FIELDS = [
    "",
    " ",
    "nan",
    "inf",
    "1e400",
    "-1",
    "1_0",
    "٣",
    "=1+1",
    '"',
    "'",
    "\x00",
    "\n",
    "\r",
    "\x1b[2J",
    "a,b",
    "x" * 300,
]
_ODD_TEXTS = [
    b"",
    b"\x00",
    b"-1",
    b"0",
    b"1e400",
    b"nan",
    b"99999999999999999999",
    b"\\",
    b"1\\2\\3",
    b"\xff\xfe",
    b"x" * 300,
]


@pytest.fixture(autouse=True)
def little_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _MOST_MEMORY_KB


def examples(count):
    """The same ones every time; as many as take a few seconds."""
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


@functools.cache
def seed(name):
    return READERS[name].seed()


def readers(*names):
    marks = {name: [pytest.mark.skipif(not _is_there(_NEEDS[name]), reason="not installed")] for name in _NEEDS}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks.get(name, ())) for name in names or READERS])


def _is_there(library):
    try:
        __import__(library)
    except ImportError:
        return False
    return True


@readers()
def test_a_sound_file_is_read(name):
    assert check(READERS[name], seed(name)) is None


@readers()
@examples(60)
@given(data=st.data())
def test_bytes_are_changed(name, data):
    content = bytearray(seed(name))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        match data.draw(st.sampled_from(["change", "cut", "put in", "take out", "repeat"])):
            case "change":
                some = data.draw(st.binary(min_size=1, max_size=8))
                content[place : place + len(some)] = some
            case "cut":
                del content[place:]
            case "put in":
                content[place:place] = data.draw(st.binary(min_size=1, max_size=20))
            case "take out":
                del content[place : place + data.draw(st.integers(1, 40))]
            case "repeat":
                content[place:place] = content[place : place + 200]
    check(READERS[name], bytes(content))


@readers("image", "image_with_extensions", "labels", "pair")
@examples(200)
@given(data=st.data())
def test_fields_of_a_header_are_changed(name, data):
    content = bytearray(seed(name))
    fields = nib.Nifti1Header.template_dtype.fields
    for field in data.draw(st.lists(st.sampled_from([*fields, "extension"]), min_size=1, max_size=3)):
        if field == "extension":
            content[348:368] = data.draw(st.binary(min_size=20, max_size=20))
            continue
        kind, place = fields[field][:2]
        if kind.base.kind == "S":
            value = data.draw(st.binary(max_size=kind.itemsize)).ljust(kind.itemsize, b"\0")
        else:
            values = _odd_numbers(kind.base)
            value = np.array([data.draw(values) for _ in range(max(math.prod(kind.shape), 1))], kind.base).tobytes()
        content[place : place + len(value)] = value
    check(READERS[name], bytes(content))


def _odd_numbers(kind):
    if kind.kind == "f":
        usual = [0.0, -0.0, 1.0, 1.5, 10.0, -1.5, math.nan, math.inf, -math.inf, 1e38, 1e-38, 352.0, 2.0**31]
        return st.sampled_from(usual) | st.floats(width=32)
    limits = np.iinfo(kind)
    return st.sampled_from([0, 1, limits.max, limits.min]) | st.integers(limits.min, limits.max)


@readers("nnunet_dataset", "nnunet_splits", "label_table", "model", "calibration", "correction", "record", "study")
@examples(150)
@given(data=st.data())
def test_values_in_json_are_changed(name, data):
    values = json.loads(seed(name))
    for _ in range(data.draw(st.integers(1, 3))):
        if not isinstance(values, dict | list) or not values:
            break
        outer, key = values, data.draw(st.sampled_from(_keys(values)))
        while isinstance(outer[key], dict | list) and outer[key] and data.draw(st.integers(0, 4)):
            outer = outer[key]
            key = data.draw(st.sampled_from(_keys(outer)))
        match data.draw(st.sampled_from(["change", "change", "change", "take out", "rename"])):
            case "change":
                outer[key] = copy.deepcopy(data.draw(st.sampled_from(_ODD_VALUES)))
            case "take out":
                del outer[key]
            case "rename" if isinstance(outer, dict):
                outer[data.draw(st.sampled_from([odd for odd in _ODD_VALUES if isinstance(odd, str)]))] = outer.pop(key)
    try:
        content = json.dumps(values)
    except ValueError:  # of a number with too many digits to be written
        content = "[" + "1" * 5000 + "]"
    check(READERS[name], content.encode())


def _keys(values):
    return list(values) if isinstance(values, dict) else list(range(len(values)))


@readers("confidence", "orientations")
@examples(150)
@given(data=st.data())
def test_fields_of_a_table_are_changed(name, data):
    rows = [line.split(",") for line in seed(name).decode().splitlines()]
    for _ in range(data.draw(st.integers(1, 4))):
        row = data.draw(st.sampled_from(rows))
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.sampled_from(_ODD_FIELDS))
    if data.draw(st.booleans()):
        rows.append(data.draw(st.sampled_from(rows)))
    ending = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    check(READERS[name], ending.join(",".join(row) for row in rows).encode())


@readers("dicom")
@examples(250)
@given(data=st.data())
def test_elements_of_a_dicom_file_are_changed(name, data):
    pydicom = pytest.importorskip("pydicom")
    content = bytearray(seed(name))
    dataset = pydicom.dcmread(io.BytesIO(content))
    elements = [dataset.get_item(tag) for tag in sorted(dataset.keys()) if tag != (0x7FE0, 0x0010)]
    elements += [dataset.file_meta.get_item(tag) for tag in sorted(dataset.file_meta.keys())]
    places = {str(element.tag): (element.value_tell, element.length) for element in elements if _is_short(element)}
    chosen = data.draw(st.lists(st.sampled_from(sorted(places)), min_size=1, max_size=3, unique=True))
    for tag in sorted(chosen, key=places.get, reverse=True):
        place, length = places[tag]
        value = data.draw(st.sampled_from(_ODD_TEXTS) | st.binary(max_size=8))
        value += b"\0" * (len(value) % 2)
        content[place - 2 : place + length] = len(value).to_bytes(2, "little") + value
    check(READERS[name], bytes(content))


def _is_short(element):
    return getattr(element, "value_tell", None) and element.VR not in ("OB", "OW", "SQ", "UN", "UT")


@examples(150)
@given(data=st.data())
def test_headers_of_arrays_are_changed(data):
    shape = data.draw(
        st.sampled_from([(2, 3), (10**12,), (-1, 6), (0,), (2**62, 2**62), (True, 6), "x", (), [6], ((6,),), (6.0,)])
    )
    kind = data.draw(
        st.sampled_from(["<f2", "<f8", "|O", "<i4", "<c8", "<U4", "<M8[s]", "|V3", "[('a', 'O')]", "f", "x"])
    )
    header = f"{{'descr': {kind!r}, 'fortran_order': {data.draw(st.booleans())}, 'shape': {shape!r}}}"
    odd = ["", header, "(" * 5000, "__import__('os').system('false')", "[" * 200 + "]" * 200, "{'a': 1}", header[:-1]]
    text = data.draw(st.sampled_from([header, header, *odd])).encode() + b"\n"
    version = data.draw(st.sampled_from([(1, 0), (2, 0), (3, 0), (9, 9)]))
    length = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    array = b"\x93NUMPY" + bytes(version) + length + text + data.draw(st.sampled_from([b"", bytes(12), bytes(48)]))
    check(READERS["weights"], _archive({data.draw(st.sampled_from(["a.npy", "a/b.npy", "../a.npy", "/"])): array}))


def _archive(members):
    import zipfile

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()
