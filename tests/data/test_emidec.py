"""Reading and writing cases in the challenge's layout, with nibabel as the other party."""

import dataclasses
import gzip
from pathlib import Path

import hypothesis.extra.numpy as arrays
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_jax.data import emidec
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.emidec import read_case, read_labels
from cascade_jax.data.folders import CaseFiles, find_cases, find_contours, find_inputs
from cascade_jax.data.geometry import BETWEEN_SLICES_MM, IN_PLANE_MM
from tests.data.nifti_files import IMAGE_CLASS, PIXDIM, fault_of, read_image, save, voxels

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "emidec_sample"


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
    blood, myocardium, border = (case.image[case.labels == label].mean() for label in (1, 2, 0))
    assert blood > myocardium > border


def test_labels_stored_as_scaled_integers_are_whole_again(tmp_path):
    labels = (voxels() % 5).astype(np.float64)
    image = nib.Nifti1Image(labels, np.diag([1.5, 1.5, 10.0, 1.0]))
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "labels.nii.gz")
    assert (nib.load(tmp_path / "labels.nii.gz").get_fdata() != labels).any()
    assert (read_labels(tmp_path / "labels.nii.gz")[0] == labels.T).all()


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
