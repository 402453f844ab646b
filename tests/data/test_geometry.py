"""What headers say of voxels' size and place, and labels of one file on the grid of another."""

import gzip
import itertools

import nibabel as nib
import numpy as np
import pytest

from cascade_jax.commands.evaluate import evaluate_folders
from cascade_jax.commands.quantify import quantify_folder
from cascade_jax.data import emidec, folders, nnunet
from cascade_jax.data.case import CaseError
from cascade_jax.data.emidec import read_case, read_labels
from cascade_jax.data.folders import CaseFiles
from cascade_jax.data.geometry import GeometryError, geometry_of_array, geometry_of_header, onto

SIZE = (1.35, 1.5, 9.0)  # mm along x, y and the slices


def oblique(size=SIZE, place=(-90.0, 40.0, 12.0)):
    normal, across = np.array([0.6, -0.48, 0.64]), np.array([0.8, 0.36, -0.48])
    axes = np.stack([across, np.cross(normal, across), normal], 1)
    return nib.affines.from_matvec(axes * size, place)


def header_of(shape=(20, 18, 6), pixdim=SIZE, affine=None, unit=2):
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    if affine is not None:
        header.set_sform(affine, code=1)
    header["pixdim"][1 : len(shape) + 1] = pixdim
    header["xyzt_units"] = unit
    return header


def save(path, array, header):
    header.set_data_dtype(array.dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = header.binaryblock + bytes(4) + array.tobytes(order="F")
    path.write_bytes(gzip.compress(content, 1))
    return path


def a_heart(shape=(20, 18, 6)):
    """Labels (x, y, slice) that no flip or permutation leaves as they are, and an image of them."""
    labels = np.zeros(shape, np.uint8)
    labels[3:14, 4:13] = 2
    labels[6:11, 6:11, 1:] = 1
    labels[11:14, 5:8, 2:4] = 3
    labels[12, 6, 2] = 4
    image = (100 * labels + np.random.default_rng(0).normal(500, 20, shape)).astype(np.float32)
    return labels, image


# One file


@pytest.mark.parametrize(
    ("pixdim", "affine", "unit", "expected"),
    [
        (SIZE, None, 2, SIZE),
        (SIZE, None, 0, SIZE),
        (np.divide(SIZE, 1000), None, 1, SIZE),  # metres
        (np.multiply(SIZE, 1000), None, 3, SIZE),  # microns
        (SIZE, np.diag([-1.0, -1.0, 1.0, 1.0]), 0, SIZE),  # the challenge's affine
        ((1.0, 1.0, 1.0), oblique(), 2, SIZE),
        ((1.0, 1.0, 1.0), oblique(np.divide(SIZE, 1000)), 1, SIZE),
        (SIZE, oblique(np.multiply(SIZE, 1.005)), 2, SIZE),  # rounded
    ],
)
def test_a_voxels_size_is_told_by_whichever_of_pixdim_and_affine_a_stack_can_have(pixdim, affine, unit, expected):
    geometry = geometry_of_header(header_of(pixdim=pixdim, affine=affine, unit=unit))
    np.testing.assert_allclose(geometry.size_mm, expected, rtol=1e-6)
    np.testing.assert_allclose(geometry.spacing, expected[::-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"pixdim": SIZE, "unit": 1}, "1350 x 1500 x 9000 mm"),
        ({"pixdim": SIZE, "unit": 3}, "0.00135 x 0.0015 x 0.009 mm"),
        ({"pixdim": SIZE, "unit": 5}, "unknown unit (code 5"),
        ({"pixdim": SIZE, "affine": oblique((1.35, 1.5, 10.0))}, "1.35 x 1.5 x 9 mm by pixdim, 1.35 x 1.5 x 10 mm by"),
        ({"pixdim": (1.0, 1.0, 1.0)}, "20 x 18 x 6 voxels of 1 x 1 x 1 mm"),
        ({"pixdim": (1.35, 1.5, 44.0)}, "2 to 25 mm between slices"),
        ({"pixdim": (0.3, 0.3, 9.0)}, "0.4 to 4 mm in the plane"),
        ({"pixdim": SIZE, "shape": (10, 100, 80)}, "10 x 100 x 80 voxels"),  # 80 slices
        ({"pixdim": (9.0, 1.35, 1.35), "shape": (224, 256, 10)}, "224 x 256 x 10 voxels of 9 x 1.35 x 1.35"),
        ({"pixdim": SIZE, "shape": (32767, 32767, 32767)}, "announces 32767 x 32767 x 32767 voxels"),
    ],
)
def test_what_cannot_be_or_contradicts_itself_is_refused_with_its_figures(fields, fault):
    with pytest.raises(GeometryError) as error:
        geometry_of_header(header_of(**fields))
    assert fault in str(error.value)


@pytest.mark.parametrize(("first", "axes"), [(0, (1, 2, 0)), (1, (0, 2, 1))])
def test_a_file_with_its_slices_along_another_axis_is_read_as_a_stack_and_answered_in_its_own_order(
    tmp_path, first, axes
):
    labels, image = a_heart()
    scan, contour = (save(tmp_path / name, array, header_of()) for name, array in (("a.nii", image), ("l.nii", labels)))
    upright = read_case(CaseFiles("a", scan, contour))
    order = np.argsort(axes)
    turned_shape, turned_size = (tuple(np.array(values)[order]) for values in (image.shape, SIZE))
    header = header_of(turned_shape, turned_size)
    turned = read_case(
        CaseFiles(
            "b",
            save(tmp_path / "b.nii.gz", np.ascontiguousarray(image.transpose(order)), header),
            save(tmp_path / "m.nii.gz", np.ascontiguousarray(labels.transpose(order)), header.copy()),
        )
    )
    assert turned_shape[first] == 6
    np.testing.assert_array_equal(turned.image, upright.image)
    np.testing.assert_array_equal(turned.labels, upright.labels)
    assert turned.spacing == pytest.approx(upright.spacing)
    written = nib.load(emidec.write_labels(tmp_path / "out", turned.labels, turned))
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels.transpose(order))


def test_a_single_slice_has_the_thickness_that_its_file_says_or_none():
    for pixdim, affine, expected in (
        ((1.4, 1.4, 8.0), None, 8.0),
        ((1.4, 1.4, 1.0), None, np.nan),
        ((1.4, 1.4, 1.0), oblique((1.4, 1.4, 8.0)), 8.0),
        ((1.4, 1.4, 8.0), np.eye(4), 8.0),
    ):
        geometry = geometry_of_header(header_of((30, 30, 1), pixdim, affine))
        assert geometry.spacing == pytest.approx((expected, 1.4, 1.4), nan_ok=True)


def test_a_header_that_announces_more_than_it_holds_costs_no_memory(tmp_path):
    _, image = a_heart()
    path = save(tmp_path / "bomb.nii.gz", image, header_of())
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = np.array([640, 640, 50], "<i2").tobytes()  # the dimensions
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(CaseError, match="is truncated: 8640 bytes of voxels where 81920000 are expected"):
        emidec.read_voxels(path)


# Two files


def turns():
    """Every order of the axes with every choice of directions."""
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            yield order, [axis for axis in range(3) if flips[axis]]


def turned(array, affine, order, flips):
    """The same voxels in the same places, stored in another order: array and affine."""
    image = nib.Nifti1Image(array, affine)
    ornt = np.array([[order.index(axis), -1 if axis in flips else 1] for axis in range(3)])
    other = image.as_reoriented(ornt)
    return np.asarray(other.dataobj), other.affine


@pytest.mark.parametrize(("order", "flips"), list(turns()))
def test_labels_stored_in_another_order_than_their_image_lie_on_it_again(tmp_path, order, flips):
    labels, image = a_heart()
    array, affine = turned(labels, oblique(), order, flips)
    size = nib.affines.voxel_sizes(affine)
    truth = save(tmp_path / "truth.nii.gz", labels, header_of(affine=oblique()))
    other = save(tmp_path / "other.nii.gz", array, header_of(array.shape, size, affine))
    scan = save(tmp_path / "scan.nii.gz", image, header_of(affine=oblique()))
    np.testing.assert_array_equal(read_case(CaseFiles("a", scan, other)).labels, labels.T)
    grid = emidec.read_geometry(truth)
    np.testing.assert_array_equal(read_labels(other, like=grid, name="the truth")[0], labels.T)
    # And the other way round, onto the grid of the turned file.
    back = onto(labels, grid, emidec.read_geometry(other), "it")
    np.testing.assert_array_equal(back, read_labels(other)[0])


def test_a_segmentation_compared_with_itself_in_another_order_has_dice_1(tmp_path):
    labels, _ = a_heart()
    array, affine = turned(labels, oblique(), (0, 1, 2), [0, 2])
    save(tmp_path / "truth" / "a.nii.gz", labels, header_of(affine=oblique()))
    save(tmp_path / "prediction" / "a.nii.gz", array, header_of(affine=affine))
    result = evaluate_folders(tmp_path / "prediction", tmp_path / "truth")
    assert not result["failed"]
    for values in result["cases"]["a"].values():
        assert values["dice"] == 1 and values["volume_difference_mm3"] == 0


REFUSED = {
    "other size": (header_of(pixdim=(3.0, 3.0, 9.0)), "3 x 3 x 9 mm, but NAME of 1.35 x 1.5 x 9 mm"),
    "other size, both true": (header_of(pixdim=(3, 3, 9), affine=oblique((3, 3, 9))), "3 x 3 x 9 mm, but NAME of 1.35"),
    "no size": (header_of(pixdim=(1.0, 1.0, 9.0)), "1 x 1 x 9 mm, but NAME of 1.35 x 1.5 x 9 mm"),
    "other place": (header_of(affine=oblique(place=(-90.0, 40.0, 32.0))), "lies 20 mm beside NAME"),
    "other direction": (header_of(affine=np.diag([*SIZE, 1.0])), "lies at an angle to NAME"),
    "one slice fewer": (header_of((20, 18, 5), affine=oblique()), "is 20 x 18 x 5 voxels, but NAME is 20 x 18 x 6"),
}


@pytest.mark.parametrize(("header", "fault"), REFUSED.values(), ids=REFUSED)
def test_files_of_two_grids_are_never_laid_on_one_another(tmp_path, header, fault):
    labels, image = a_heart()
    own = header_of(affine=oblique())
    labels = labels[:, :, : header.get_data_shape()[2]]

    def words(name):
        return fault.replace("NAME", name)

    cohort, raw = tmp_path / "cohort", tmp_path / "raw"
    scan = save(cohort / "a" / "Images" / "a.nii.gz", image, own)
    contour = save(cohort / "a" / "Contours" / "a.nii.gz", labels, header.copy())
    with pytest.raises(CaseError) as error:
        read_case(folders.find_cases(cohort)[0])
    assert str(error.value).startswith(f"{contour}: ") and words("its image a.nii.gz") in str(error.value)

    save(raw / "imagesTr" / "a_0000.nii.gz", image, own)
    save(raw / "labelsTr" / "a.nii.gz", labels, header.copy())
    (raw / "dataset.json").write_text(
        '{"labels": {"background": 0, "cavity": 1, "myocardium": 2, "infarction": 3, "no_reflow": 4}}'
    )
    with pytest.raises(CaseError) as error:
        nnunet.import_dataset(raw, tmp_path / "imported", {}, lambda iterable, _: iterable)
    assert words("its image") in str(error.value) and not (tmp_path / "imported").exists()

    failed = quantify_folder(cohort, scan, tmp_path / "tables", None, lambda iterable, _: iterable)
    assert words("its image a.nii.gz") in failed["a"]

    truth = tmp_path / "truth" / "a" / "Contours" / "a.nii.gz"
    save(truth, np.zeros((20, 18, 6), np.uint8), own)
    assert words("the truth") in evaluate_folders(cohort, truth.parents[2])["failed"]["a"]


def test_a_file_that_does_not_say_how_it_lies_is_compared_by_its_size():
    labels, _ = a_heart()
    challenge = geometry_of_header(header_of(affine=np.diag([-1.0, -1.0, 1.0, 1.0])))
    true = geometry_of_header(header_of(affine=oblique()))
    assert challenge.affine is None and true.affine is not None
    np.testing.assert_array_equal(onto(labels, challenge, true, "it"), labels.T)
    np.testing.assert_array_equal(onto(labels, true, geometry_of_array((6, 18, 20), SIZE[::-1]), "it"), labels.T)
