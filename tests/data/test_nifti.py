"""Files read voxel by voxel as nibabel reads them, and those that are no stack of slices."""

import gzip

import hypothesis.extra.numpy as arrays
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_jax.data import emidec
from cascade_jax.data.case import CaseError
from cascade_jax.data.emidec import read_case, read_labels
from cascade_jax.data.folders import CaseFiles
from tests.data.nifti_files import fault_of, read_image, save, voxels

BAD_GRIDS = {
    "one-dimensional": (voxels((6,)), {}, "has 1 dimensions"),
    "four-dimensional": (voxels((6, 5, 3, 2)), {}, "has 4 dimensions"),
    "no slice": (voxels((6, 5, 0)), {}, "empty dimension: 6 x 5 x 0"),
    "negative length": (voxels(), {"dim": [3, 6, -5, 3, 1, 1, 1, 1]}, "empty dimension: 6 x -5 x 3"),
    "zero pixdim": (voxels(), {"pixdim": (1.5, 1.5, 0)}, "no valid voxel size: 1.5 x 1.5 x 0 mm"),
    "negative pixdim": (voxels(), {"pixdim": (-1.5, 1.5, 10)}, "no valid voxel size: -1.5 x"),
    "NaN pixdim": (voxels(), {"pixdim": (1.5, np.nan, 10)}, "no valid voxel size: 1.5 x nan"),
    "infinite pixdim": (voxels(), {"pixdim": (1.5, 1.5, np.inf)}, "no valid voxel size"),
    "complex": (voxels().astype(np.complex64), {}, "data type complex64"),
    "RGB": (np.zeros((6, 5, 3), [(c, "u1") for c in "RGB"]), {}, "data type RGB"),
    "unknown data type": (voxels(), {"datatype": 5}, "unknown data type 5"),
    "infinite intercept": (voxels(), {"scl_slope": 1, "scl_inter": np.inf}, "intercept"),
    "infinite offset of the voxels": (voxels(), {"vox_offset": np.inf}, "vox_offset is inf"),
    "fewer voxels than promised": (voxels(), {"dim": [3, 6, 5, 4, 1, 1, 1, 1]}, "truncated: 720 bytes"),
}


@settings(max_examples=40, deadline=None)
@given(
    stored=arrays.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]),
        st.tuples(*[st.integers(1, 5)] * 3),
        elements=st.integers(0, 100),
    ).filter(lambda array: array.min() != array.max()),
    slope=st.sampled_from([0, np.nan, 1, 0.5, -3]),
    inter=st.sampled_from([0, -1024, 7.25]),
)
def test_intensities_are_what_nibabel_says_they_are(tmp_path_factory, stored, slope, inter):
    path = save(tmp_path_factory.mktemp("case") / "case.nii", stored, scl_slope=slope, scl_inter=inter)
    expected = nib.load(path).get_fdata()
    np.testing.assert_allclose(read_image(path).image, expected.transpose(2, 1, 0), rtol=1e-6)


@pytest.mark.parametrize("fields", [{"vox_offset": 0}, {"gap": 48}], ids=["unset", "with a gap"])
def test_voxels_are_read_from_where_the_header_says_and_written_right_behind_it(tmp_path, fields):
    case = read_image(save(tmp_path / "case.nii", voxels(), **fields))
    assert (case.image == voxels().T).all()
    result = nib.load(emidec.write_labels(tmp_path, (case.image % 5).astype(np.uint8), case))
    assert (np.asarray(result.dataobj) == voxels() % 5).all()


def with_voxel(value):
    array = voxels()
    array[1, 2, 1] = value
    return array


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("array", "fields", "fault"), BAD_GRIDS.values(), ids=BAD_GRIDS)
def test_a_file_that_is_no_stack_of_slices_is_refused_as_image_and_as_labels(tmp_path, suffix, array, fields, fault):
    path = save(tmp_path / f"case{suffix}", array, **fields)
    for read in read_image, read_labels:
        with pytest.raises(CaseError) as error:
            read(path)
        assert fault in fault_of(error, path)


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (with_voxel(np.nan), "1 of 90 voxels are NaN or infinite"),
        (with_voxel(-np.inf), "1 of 90 voxels are NaN or infinite"),
        (with_voxel(1e300), "1 of 90 voxels are NaN or infinite"),
        (np.full((6, 5, 3), 2048, np.int16), "every voxel has the value 2048"),
    ],
)
def test_an_image_without_usable_intensities_is_refused(tmp_path, array, fault):
    path = save(tmp_path / "case.nii.gz", array)
    with pytest.raises(CaseError) as error:
        read_image(path)
    assert fault in fault_of(error, path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b"not an image", "is not a NIfTI file"),
        (bytes(1000), "is not a NIfTI file"),
        (b"\x1f\x8b but not gzip", "truncated or damaged"),
        (gzip.compress(b"not an image", mtime=0), "is not a NIfTI file"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, fault):
    path = tmp_path / "case.nii.gz"
    path.write_bytes(content)
    for read in read_image, read_labels:
        with pytest.raises(CaseError) as error:
            read(path)
        assert fault in fault_of(error, path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@settings(max_examples=40, deadline=None)
@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_anywhere_is_refused(tmp_path_factory, suffix, kept):
    path = save(tmp_path_factory.mktemp("case") / f"case{suffix}", voxels())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CaseError) as error:
        read_image(path)
    assert fault_of(error, path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 400), damage=st.binary(min_size=1, max_size=8))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path_factory, suffix, place, damage):
    path = save(tmp_path_factory.mktemp("case") / f"case{suffix}", voxels())
    content = bytearray(path.read_bytes())
    content[place : place + len(damage)] = damage
    path.write_bytes(content)
    try:
        assert np.isfinite(read_image(path).image).all()
    except CaseError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


@pytest.mark.parametrize(("shape", "spacing"), [((6, 5), (np.nan, 1.5, 1.4)), ((6, 5, 3, 1), (10.0, 1.5, 1.4))])
def test_a_single_slice_in_two_dimensions_or_one_point_in_time_is_a_stack_too(tmp_path, shape, spacing):
    array = voxels(shape)
    pixdim = (*spacing[:0:-1], 10.0 if len(shape) > 2 else 0.0)
    path = save(tmp_path / "scan.nii", array, pixdim=pixdim)
    case = read_case(CaseFiles("scan", path, None))
    np.testing.assert_array_equal(case.image, array.reshape(6, 5, -1).T)
    assert case.spacing == pytest.approx(spacing, nan_ok=True)
    labels = np.zeros(case.image.shape, np.uint8)
    labels[0, 2, 3] = 4
    written = emidec.write_labels(tmp_path, labels, case)
    assert nib.load(written).shape == shape
    np.testing.assert_array_equal(read_labels(written)[0], labels)
