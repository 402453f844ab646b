"""Finding, reading and writing cases in the challenge's layout, with nibabel as the other party."""

import dataclasses
import gzip
from pathlib import Path

import hypothesis.extra.numpy as arrays
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_jax.data import emidec, folders, orientation
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.emidec import read_case, read_labels
from cascade_jax.data.folders import CaseFiles, find_cases, find_contours, find_inputs
from cascade_jax.data.geometry import BETWEEN_SLICES_MM, IN_PLANE_MM, geometry_of_header

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "emidec_sample"
PIXDIM = (1.25, 1.5, 10.0)  # x, y, slice
IMAGE_CLASS = {nib.Nifti1Header: nib.Nifti1Image, nib.Nifti2Header: nib.Nifti2Image}


def voxels(shape=(6, 5, 3)):
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


def save(path, array, *, pixdim=PIXDIM, header_class=nib.Nifti1Header, gap=0, **fields):
    """Writes (x, y, slice) voxels as they are below a header with any field set to anything, valid or not.

    The gap is the number of bytes left unused between header and voxels.
    """
    header = header_class()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header["pixdim"][1:4] = pixdim
    header["vox_offset"] = header.single_vox_offset + gap
    for field, value in fields.items():
        header[field] = value
    content = header.binaryblock + bytes(4 + gap) + array.tobytes(order="F")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def save_case(root, name, suffix=".nii.gz", labelled=True):
    save(root / name / "Images" / f"{name}{suffix}", voxels())
    if labelled:
        save(root / name / "Contours" / f"{name}{suffix}", np.zeros((6, 5, 3)))


def read_image(path):
    return read_case(CaseFiles("case", path, None))


def fault_of(error, path):
    """What a CaseError says of a path, once it is sure to be one line that begins with that path."""
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def test_a_cohort_is_every_folder_with_images_sorted_by_name_whatever_else_lies_beside(tmp_path):
    save_case(tmp_path, "Case_P002", ".nii", labelled=False)
    save_case(tmp_path, "Case_N006")
    (tmp_path / "Case N006.txt").write_text("Sex: F")
    (tmp_path / "notes" / "Contours").mkdir(parents=True)
    (tmp_path / "Case_N006" / "Images" / "._Case_N006.nii.gz").write_bytes(b"macOS")
    first, second = find_cases(tmp_path)
    folder = tmp_path / "Case_N006"
    assert first == CaseFiles(
        "Case_N006", folder / "Images" / "Case_N006.nii.gz", folder / "Contours" / "Case_N006.nii.gz"
    )
    assert second == CaseFiles("Case_P002", tmp_path / "Case_P002" / "Images" / "Case_P002.nii", None)


def test_a_case_is_named_by_its_folder_not_by_its_file(tmp_path):
    save(tmp_path / "patient 7" / "Images" / "scan.nii.gz", voxels())
    assert [case.name for case in find_cases(str(tmp_path))] == ["patient 7"]


@pytest.mark.parametrize("find", [find_cases, find_contours, find_inputs])
def test_a_missing_or_empty_root_is_named(tmp_path, find):
    with pytest.raises(CaseError) as error:
        find(tmp_path / "nowhere")
    assert fault_of(error, tmp_path / "nowhere") == "no such file or folder"
    with pytest.raises(CaseError) as error:
        find(tmp_path)
    assert "holds n" in fault_of(error, tmp_path)


@pytest.mark.parametrize("find", [find_cases, find_contours])
def test_a_root_that_is_a_file_is_no_cohort(tmp_path, find):
    path = save(tmp_path / "scan.nii", voxels())
    with pytest.raises(CaseError) as error:
        find(path)
    assert fault_of(error, path) == "is not a folder"


def test_a_case_without_an_image_or_with_several_is_refused(tmp_path):
    images = tmp_path / "Case_N006" / "Images"
    images.mkdir(parents=True)
    for find in find_cases, find_inputs:
        with pytest.raises(CaseError) as error:
            find(tmp_path)
        assert "holds no NIfTI file" in fault_of(error, images)
    for suffix in ".nii", ".nii.gz":
        save(images / f"Case_N006{suffix}", voxels())
    for find in find_cases, find_inputs:
        with pytest.raises(CaseError) as error:
            find(tmp_path)
        assert "Case_N006.nii, Case_N006.nii.gz" in fault_of(error, images)


def test_a_contour_has_to_be_there_only_in_a_labelled_cohort(tmp_path):
    save_case(tmp_path, "Case_N006")
    save_case(tmp_path, "Case_N007", labelled=False)
    assert [case.contour is None for case in find_cases(tmp_path)] == [False, True]
    with pytest.raises(CaseError) as error:
        find_cases(tmp_path, labelled=True)
    assert "no contour" in fault_of(error, tmp_path / "Case_N007")


@pytest.mark.parametrize("find", [find_cases, find_contours])
def test_a_case_with_several_contours_is_refused(tmp_path, find):
    save_case(tmp_path, "Case_N006")
    contours = tmp_path / "Case_N006" / "Contours"
    save(contours / "second reader.nii", voxels())
    with pytest.raises(CaseError) as error:
        find(tmp_path)
    assert "2 NIfTI files" in fault_of(error, contours)


@pytest.mark.parametrize("find", [find_cases, find_contours, find_inputs])
def test_names_that_differ_only_in_upper_and_lower_case_are_duplicates(tmp_path, find):
    save_case(tmp_path, "Case_N006")
    save_case(tmp_path, "case_n006")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system does not tell upper from lower case")
    with pytest.raises(CaseError) as error:
        find(tmp_path)
    assert "two cases named" in fault_of(error, tmp_path)


def test_contours_are_found_where_there_are_no_images(tmp_path):
    path = save(tmp_path / "Case_P001" / "Contours" / "Case_P001.nii.gz", voxels())
    save(tmp_path / "Case_P002" / "Images" / "Case_P002.nii.gz", voxels())
    assert find_contours(tmp_path) == {"Case_P001": path}
    path.unlink()
    with pytest.raises(CaseError) as error:
        find_contours(tmp_path)
    assert "holds no NIfTI file" in fault_of(error, path.parent)


def test_files_side_by_side_are_contours_and_nnunets_images_lose_their_channel(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "labels" / f"{name}.nii.gz", voxels())
        save(tmp_path / "images" / f"{name}_0000.nii.gz", voxels())
    assert find_contours(tmp_path / "labels") == {name: tmp_path / "labels" / f"{name}.nii.gz" for name in ("a", "b")}
    assert [file.name for file in find_inputs(tmp_path / "images")] == ["a", "b"]
    save(tmp_path / "images" / "c.nii.gz", voxels())
    assert [file.name for file in find_inputs(tmp_path / "images")] == ["a_0000", "b_0000", "c"]
    save(tmp_path / "labels" / "c" / "Contours" / "c.nii.gz", voxels())
    with pytest.raises(CaseError, match="which are meant"):
        find_contours(tmp_path / "labels")


def test_only_a_credible_oblique_affine_says_how_slices_lie():
    axes = np.array([[-0.8, 0.36, 0.48], [-0.6, -0.48, -0.64], [0.0, -0.8, 0.6]])  # across, down, normal in RAS
    affine = np.eye(4)
    affine[:3, :3] = axes * (1.5, 1.5, 10.0)
    right = np.linalg.det(axes) > 0
    for matrix, zooms, expected in (
        (affine, (1.5, 1.5, 10.0), right),
        (affine * (1, -1, 1, 1), (1.5, 1.5, 10.0), not right),
        (np.diag([1.5, 1.5, 10.0, 1.0]), (1.5, 1.5, 10.0), None),  # not a short axis
    ):
        header = nib.Nifti1Header()
        header.set_data_shape((4, 4, 3))
        header.set_sform(matrix, code=1)
        header["pixdim"][1:4] = zooms
        assert orientation.right_handed(geometry_of_header(header)) == expected
    header["sform_code"] = header["qform_code"] = 0
    assert orientation.right_handed(geometry_of_header(header)) is None
    header["qform_code"], header["quatern_b"] = 1, 2.0  # no quaternion
    assert orientation.right_handed(geometry_of_header(header)) is None


def test_an_affine_that_is_not_of_the_voxels_size_is_replaced_and_another_kept():
    header = nib.Nifti1Header()
    header.set_data_shape((5, 4, 3))
    header.set_sform(np.eye(4), code=1)
    header["pixdim"][1:4] = 1.5, 1.5, 10.0
    case = emidec.Case("case", np.zeros((3, 4, 5), np.float32), None, (10.0, 1.5, 1.5), header)
    repaired = orientation.with_true_affine(case)
    np.testing.assert_allclose(repaired.header.get_best_affine(), np.diag([1.5, 1.5, 10.0, 1.0]))
    np.testing.assert_allclose(repaired.header.get_zooms(), (1.5, 1.5, 10.0))
    assert orientation.with_true_affine(repaired) is repaired


def test_inputs_are_one_file_or_a_folder_of_files_or_a_cohort(tmp_path):
    flat, cohort = tmp_path / "flat", tmp_path / "cohort"
    first = save(flat / "scan.1.nii", voxels())
    second = save(flat / "scan.2.NII.GZ", voxels())
    (flat / "readme.txt").write_text("two scans")
    save_case(cohort, "Case_P001")
    assert find_inputs(first) == [CaseFiles("scan.1", first, None)]
    assert find_inputs(flat) == [CaseFiles("scan.1", first, None), CaseFiles("scan.2", second, None)]
    assert find_inputs(cohort) == find_cases(cohort)


def test_two_files_that_would_give_one_case_are_refused(tmp_path):
    save(tmp_path / "scan.nii", voxels())
    save(tmp_path / "scan.nii.gz", voxels())
    with pytest.raises(CaseError) as error:
        find_inputs(tmp_path)
    assert fault_of(error, tmp_path) == "holds two cases named scan: scan.nii and scan.nii.gz"


def test_a_folder_that_mixes_files_and_cases_is_refused(tmp_path):
    save(tmp_path / "scan.nii", voxels())
    save_case(tmp_path, "Case_P001")
    with pytest.raises(CaseError) as error:
        find_inputs(tmp_path)
    assert "which are meant?" in fault_of(error, tmp_path)


def test_an_input_that_is_no_nifti_file_is_refused(tmp_path):
    path = tmp_path / "scan.dcm"
    path.write_bytes(b"DICM")
    with pytest.raises(CaseError) as error:
        find_inputs(path)
    assert "is not a NIfTI file" in fault_of(error, path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("header_class", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("byte_order", "<>")
def test_a_case_is_read_in_the_librarys_axis_order(tmp_path, suffix, header_class, byte_order):
    image, labels = voxels(), voxels() % 5
    path = tmp_path / f"image{suffix}"
    header = header_class(endianness=byte_order)
    header.set_data_dtype(np.float64)
    header["pixdim"][1:4] = PIXDIM
    nib.save(IMAGE_CLASS[header_class](image, None, header), path)
    contour = save(tmp_path / f"contour{suffix}", labels, header_class=header_class)
    case = read_case(CaseFiles("case", path, contour))
    assert case.name == "case"
    assert (case.image.dtype, case.labels.dtype) == (np.float32, np.uint8)
    assert case.image.flags.c_contiguous and case.labels.flags.c_contiguous
    assert case.image.shape == case.labels.shape == (3, 5, 6)
    for x, y, slice_ in np.ndindex(image.shape):
        assert case.image[slice_, y, x] == image[x, y, slice_]
        assert case.labels[slice_, y, x] == labels[x, y, slice_]


def test_spacing_comes_from_pixdim_whatever_the_affine_says(tmp_path):
    one_mm = {"sform_code": 2, "srow_x": (-1, 0, 0, 0), "srow_y": (0, -1, 0, 0), "srow_z": (0, 0, 1, 0)}
    path = save(tmp_path / "case.nii", voxels(), pixdim=(1.25, 1.5, 13), **one_mm)
    assert nib.affines.voxel_sizes(nib.load(path).affine).tolist() == [1, 1, 1]
    assert read_image(path).spacing == (13, 1.5, 1.25)
    labels, spacing = read_labels(save(tmp_path / "labels.nii", voxels() % 5, pixdim=(1.25, 1.5, 13), **one_mm))
    assert spacing == (13, 1.5, 1.25)
    assert (labels == (voxels() % 5).T).all()


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


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the challenge's sample case is not here")
def test_the_challenges_sample_case_is_read_as_it_is_described():
    (files,) = find_cases(SAMPLE, labelled=True)
    case = read_case(files)
    assert case.name == "sampleNegative"
    assert case.image.shape == case.labels.shape == (9, 246, 148)
    np.testing.assert_allclose(case.spacing, (10, 35 / 24, 35 / 24))
    assert np.unique(case.labels).tolist() == [0, 1, 2]
    image = nib.load(files.image)
    assert (case.image == image.get_fdata().transpose(2, 1, 0)).all()
    np.testing.assert_array_equal(case.header.get_sform(), image.affine)
    blood, muscle, border = (case.image[case.labels == label].mean() for label in (1, 2, 0))
    assert blood > muscle > border


def test_labels_stored_as_scaled_integers_are_whole_again(tmp_path):
    labels = (voxels() % 5).astype(np.float64)
    image = nib.Nifti1Image(labels, np.diag([1.5, 1.5, 10.0, 1.0]))
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "labels.nii.gz")
    assert (nib.load(tmp_path / "labels.nii.gz").get_fdata() != labels).any()
    assert (read_labels(tmp_path / "labels.nii.gz")[0] == labels.T).all()


def with_voxel(value):
    array = voxels()
    array[1, 2, 1] = value
    return array


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


@pytest.mark.parametrize("value", [5, 255, -1, 1.5, 3.01, np.nan, np.inf, 1e300])
def test_labels_outside_the_five_are_refused_with_the_value_found(tmp_path, value):
    array = np.zeros((6, 5, 3))
    array[1, 2, 1] = value
    path = save(tmp_path / "labels.nii.gz", array)
    with pytest.raises(CaseError) as error:
        read_labels(path)
    assert f"value {value:g} where" in fault_of(error, path)
    image = save(tmp_path / "image.nii.gz", voxels())
    with pytest.raises(CaseError) as error:
        read_case(CaseFiles("case", image, path))
    assert f"value {value:g} where" in fault_of(error, path)


def test_labels_of_another_shape_than_their_image_are_refused(tmp_path):
    image = save(tmp_path / "image.nii.gz", voxels((6, 5, 3)))
    contour = save(tmp_path / "contour.nii.gz", np.zeros((5, 6, 3)))
    with pytest.raises(CaseError) as error:
        read_case(CaseFiles("case", image, contour))
    assert fault_of(error, contour) == "is 5 x 6 x 3 voxels, but its image image.nii.gz is 6 x 5 x 3"


def test_a_missing_file_is_named(tmp_path):
    image = save(tmp_path / "image.nii.gz", voxels())
    for files in CaseFiles("case", tmp_path / "gone", None), CaseFiles("case", image, tmp_path / "gone"):
        with pytest.raises(CaseError) as error:
            read_case(files)
        assert fault_of(error, tmp_path / "gone") == "no such file or folder"


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


def a_case(shape=(3, 5, 6), labels=True, header=None):
    image = np.random.default_rng(0).normal(2000, 300, shape).astype(np.float32)
    drawn = np.random.default_rng(1).integers(0, 5, shape, np.uint8) if labels else None
    return Case("Case_P007", image, drawn, (13.0, 1.5, 1.25), header)


def a_header(header_class=nib.Nifti1Header, byte_order="<"):
    """A header in which every field that results must carry over has a value of its own."""
    header = header_class(endianness=byte_order)
    header.set_data_shape((6, 5, 3))
    header.set_data_dtype(np.int16)
    header.set_qform(np.diag([-2.0, 2.0, 3.0, 1.0]), code=1)
    header.set_sform([[-1, 0.1, 0, 5], [0, -1, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]], code=2)
    header.set_zooms((1.25, 1.5, 13))
    header.set_xyzt_units("mm", "sec")
    header["scl_slope"], header["scl_inter"] = 0.5, -3
    header["descrip"], header["cal_max"], header["intent_name"] = b"PSIR 10 min", 4095, b"DE-MRI"
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"acquired at rest"))
    return header


@pytest.mark.parametrize("header", [None, a_header(), a_header(nib.Nifti2Header, ">")], ids=["none", "1", "2"])
def test_a_case_written_and_read_back_is_the_same_case(tmp_path, header):
    case = a_case(header=header)
    emidec.write_case(tmp_path, case)
    (files,) = find_cases(tmp_path, labelled=True)
    again = read_case(files)
    assert (again.name, again.spacing) == (case.name, case.spacing)
    assert (again.image == case.image).all() and (again.labels == case.labels).all()
    for path in files.image, files.contour:
        assert nib.load(path).header["datatype"] == 64


@settings(max_examples=25, deadline=None)
@given(
    image=arrays.arrays(
        np.float32,
        st.tuples(*[st.integers(1, 6)] * 3),
        elements=st.floats(-5000, 5000, width=32),
    ).filter(lambda image: image.min() != image.max()),
    spacing=st.tuples(st.floats(5, BETWEEN_SLICES_MM[1], width=32), *[st.floats(0.5, IN_PLANE_MM[1], width=32)] * 2),
)
def test_any_image_and_spacing_survive_writing_and_reading(tmp_path_factory, image, spacing):
    root = tmp_path_factory.mktemp("cohort")
    emidec.write_case(root, Case("case", image, None, spacing))
    (files,) = find_cases(root)
    assert files.contour is None
    again = read_case(files)
    assert (again.image == image).all() and again.spacing == spacing


def test_a_case_without_a_header_gets_the_challenges_false_affine_and_true_pixdim(tmp_path):
    emidec.write_case(tmp_path, a_case())
    for path in find_cases(tmp_path)[0].image, find_cases(tmp_path)[0].contour:
        header = nib.load(path).header
        assert np.array_equal(header.get_sform(), np.diag([-1, -1, 1, 1]))
        assert (int(header["sform_code"]), int(header["qform_code"])) == (2, 0)
        assert header.get_zooms() == (1.25, 1.5, 13)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the challenge's sample case is not here")
def test_a_case_without_a_header_gets_that_of_the_challenges_sample(tmp_path):
    case = read_case(find_cases(SAMPLE)[0])
    emidec.write_case(tmp_path, dataclasses.replace(case, header=None))
    emidec.write_labels(tmp_path / "prediction", case.labels, case)
    ours, theirs = read_case(find_cases(tmp_path)[0]).header, case.header
    assert ours.binaryblock == theirs.binaryblock


def test_the_same_case_gives_the_same_bytes_whenever_and_wherever_it_is_written(tmp_path, monkeypatch):
    emidec.write_case(tmp_path / "a", a_case())
    monkeypatch.setattr("time.time", lambda: 1e9)
    emidec.write_case(tmp_path / "b", a_case())
    emidec.write_case(tmp_path / "c", dataclasses.replace(a_case(), name="another"))
    first, second, third = (find_cases(tmp_path / root)[0] for root in "abc")
    for kind in "image", "contour":
        assert getattr(first, kind).read_bytes() == getattr(second, kind).read_bytes()
        assert getattr(first, kind).read_bytes() == getattr(third, kind).read_bytes()


@pytest.mark.parametrize("header_class", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("byte_order", "<>")
def test_results_carry_the_inputs_own_header_but_for_data_type_and_scaling(tmp_path, header_class, byte_order):
    header = a_header(header_class, byte_order)
    source = tmp_path / "Case_P007.nii"
    nib.save(IMAGE_CLASS[header_class](voxels(), None, header), source)
    original = nib.load(source)
    case = read_case(find_inputs(source)[0])
    labels = np.random.default_rng(1).integers(0, 5, (3, 5, 6), np.uint8)

    path = emidec.write_labels(tmp_path / "out", labels, case)

    assert path == tmp_path / "out" / "Case_P007" / "Contours" / "Case_P007.nii.gz"
    assert find_contours(tmp_path / "out") == {"Case_P007": path}
    result = nib.load(path)
    assert result.header["datatype"] == 2 and result.header["bitpix"] == 8
    assert np.array_equal(np.asarray(result.dataobj), labels.transpose(2, 1, 0))
    np.testing.assert_array_equal(result.affine, original.affine)
    assert type(result.header) is type(original.header)
    assert result.header.extensions == original.header.extensions
    changed = {"datatype", "bitpix", "scl_slope", "scl_inter"}
    for field in set(original.header) - changed:
        assert result.header[field].tobytes() == original.header[field].tobytes(), field


def test_writing_leaves_the_cases_own_header_as_it_was(tmp_path):
    case = a_case(header=a_header())
    before = case.header.copy()
    emidec.write_labels(tmp_path, case.labels, case)
    emidec.write_case(tmp_path, case)
    assert case.header == before


def test_results_replace_earlier_ones_and_leave_nothing_else_behind(tmp_path):
    case = a_case()
    emidec.write_labels(tmp_path, np.zeros_like(case.labels), case)
    path = emidec.write_labels(tmp_path, case.labels, case)
    assert (read_labels(path)[0] == case.labels).all()
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_halfway_keeps_the_earlier_result_whole(tmp_path, monkeypatch):
    case = a_case()
    path = emidec.write_labels(tmp_path, case.labels, case)
    before = path.read_bytes()

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gzip.GzipFile, "write", disk_full)
    with pytest.raises(CaseError) as error:
        emidec.write_labels(tmp_path, np.zeros_like(case.labels), case)
    assert fault_of(error, path) == "cannot be written: No space left on device"
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_output_folder_that_cannot_be_one_is_named(tmp_path):
    occupied = tmp_path / "out"
    occupied.write_text("a file")
    for write in (
        lambda case: emidec.write_case(occupied, case),
        lambda case: emidec.write_labels(occupied, case.labels, case),
    ):
        with pytest.raises(CaseError) as error:
            write(a_case())
        assert str(error.value).startswith(str(occupied)) and "cannot be written" in str(error.value)
        assert "\n" not in str(error.value)


def test_labels_of_another_grid_are_never_written_for_a_case(tmp_path):
    with pytest.raises(ValueError, match="shape"):
        emidec.write_labels(tmp_path, np.zeros((3, 6, 5), np.uint8), a_case())
    assert not list(tmp_path.iterdir())


@given(arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 4)] * 3)))
def test_the_two_axis_orders_undo_each_other(array):
    assert (emidec.to_file_axes(emidec.from_file_axes(array)) == array).all()
    assert emidec.from_file_axes(array).shape == array.shape[::-1]


def test_faults_of_single_cases_can_be_collected_instead_of_raised(tmp_path):
    for name in ("Case_A", "Case_B"):
        (tmp_path / name / "Images").mkdir(parents=True)
        (tmp_path / name / "Contours").mkdir()
    (tmp_path / "Case_A" / "Images" / "a.nii.gz").touch()
    (tmp_path / "Case_A" / "Contours" / "a.nii.gz").touch()
    for find in (folders.find_cases, folders.find_inputs, folders.find_contours):
        with pytest.raises(CaseError, match="Case_B"):
            find(tmp_path)
        faults = {}
        assert len(find(tmp_path, faults=faults)) == 1
        assert list(faults) == ["Case_B"]
        assert "holds no NIfTI file" in faults["Case_B"]
