"""Random phantoms: what every one of them must be, and what enough of them must cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cascade_jax.phantoms.random_field import smooth_fields
from cascade_jax.phantoms.random_heart import Stack, draw_heart
from cascade_jax.phantoms.random_phantom import draw_phantom
from cascade_jax.quantify.wall import spokes

SHAPE = (6, 64, 80)
PIXEL = 3.0
COUNT = 96


@pytest.fixture(scope="module")
def phantoms():
    draw = jax.vmap(lambda key: draw_phantom(key, SHAPE, PIXEL))
    return jax.device_get(jax.jit(draw)(jax.random.split(jax.random.key(3), COUNT)))


@pytest.fixture(scope="module")
def hearts():
    """Whole ventricles, 80 mm long, in the middle of the image."""
    stack = Stack(jnp.arange(5, 75, 10.0), jnp.arange(-75, 75, 3.0), jnp.arange(-75, 75, 3.0))
    draw = jax.vmap(lambda key: draw_heart(key, stack, jnp.float32(80.0), jnp.zeros(2)))
    return jax.device_get(jax.jit(draw)(jax.random.split(jax.random.key(4), COUNT)))


def valid(phantoms, index):
    inside = np.zeros(SHAPE, bool)
    inside[tuple(slice(*limits) for limits in phantoms.extent[index])] = True
    return inside


def test_a_phantom_is_a_function_of_its_key(phantoms):
    keys = jax.random.split(jax.random.key(3), COUNT)
    again = jax.device_get(jax.jit(lambda key: draw_phantom(key, SHAPE, PIXEL))(keys[5]))
    np.testing.assert_allclose(again.image, phantoms.image[5], atol=1e-3)
    assert np.mean(again.labels != phantoms.labels[5]) < 1e-4
    assert len({image.tobytes() for image in phantoms.image}) == COUNT


def test_a_phantom_looks_like_a_preprocessed_case(phantoms):
    assert phantoms.image.dtype == np.float32
    assert phantoms.labels.dtype == np.uint8
    assert np.isfinite(phantoms.image).all()
    for index in range(COUNT):
        image, inside = phantoms.image[index], valid(phantoms, index)
        assert not image[~inside].any()
        assert not phantoms.labels[index][~inside].any()
        tissue = image[image != 0]
        assert abs(tissue.mean()) < 1e-3
        assert abs(tissue.std() - 1) < 1e-2
        # The extent is centred, as `preprocess` places a case.
        for (start, stop), size in zip(phantoms.extent[index], SHAPE, strict=True):
            assert start == (size - (stop - start)) // 2


def test_phantoms_cover_hearts_with_and_without_disease_and_stacks_of_all_depths(phantoms):
    present = np.array([[np.any(labels == label) for label in range(5)] for labels in phantoms.labels])
    share = present.mean(axis=0)
    assert share[1] > 0.8
    assert share[2] > 0.9
    assert 0.3 < share[3] < 0.8
    assert 0.1 < share[4] < share[3]
    slices = phantoms.extent[:, 0, 1] - phantoms.extent[:, 0, 0]
    assert set(slices) == set(range(1, SHAPE[0] + 1))
    assert phantoms.slice_distance.min() >= 5
    assert phantoms.slice_distance.max() <= 14
    assert np.ptp(phantoms.slice_distance) > 7
    # From hardly a cavity to a large one, mm.
    cavity = [2 * np.sqrt((labels == 1).sum((1, 2)).max() * PIXEL**2 / np.pi) for labels in phantoms.labels]
    assert min(cavity) < 12
    assert max(cavity) > 45


def test_an_infarct_can_be_told_from_myocardium(phantoms):
    """Brighter than myocardium on average, except where a magnitude image turns it over or noise hides it."""
    brighter = [
        image[labels == 3].mean() > image[labels == 2].mean() + 0.1
        for image, labels in zip(phantoms.image, phantoms.labels, strict=True)
        if min(np.count_nonzero(labels == 2), np.count_nonzero(labels == 3)) > 10
    ]
    assert len(brighter) > 20
    assert np.mean(brighter) > 0.8


def test_no_reflow_lies_in_infarction_and_that_in_the_wall(phantoms):
    for labels in phantoms.labels:
        for label, around in ((4, (3,)), (3, (1, 2, 4))):
            components, count = ndimage.label(labels == label, np.ones((3, 3, 3)))
            for component in range(1, count + 1):
                grown = ndimage.binary_dilation(components == component, np.ones((3, 3, 3)))
                if (components == component).sum() > 3:
                    assert np.isin(labels[grown & (components != component)], around).any()


def test_no_reflow_has_scar_between_itself_and_myocardium(phantoms):
    """Without it, it looks like myocardium. These voxels are as large as the thinnest scar, so that some have none."""
    neighbours = ndimage.generate_binary_structure(2, 1)[None]
    obstructed = bare = 0
    for labels in phantoms.labels:
        bordering = (labels == 4) & ndimage.binary_dilation(np.isin(labels, (0, 2)), neighbours)
        obstructed, bare = obstructed + np.count_nonzero(labels == 4), bare + np.count_nonzero(bordering)
    assert obstructed > 100
    assert bare < 0.35 * obstructed


def test_a_stack_is_coherent_through_its_slices(phantoms):
    """Neighbouring slices of one heart overlap, those of two hearts do so by chance only."""

    def overlap(first, second):
        both = np.logical_and(first > 0, second > 0).sum()
        return 2 * both / max((first > 0).sum() + (second > 0).sum(), 1)

    own, other = [], []
    for index in range(COUNT - 1):
        for depth in range(SHAPE[0] - 1):
            first, second = phantoms.labels[index][depth : depth + 2]
            if (first > 0).sum() > 20 and (second > 0).sum() > 20:
                own.append(overlap(first, second))
                other.append(overlap(first, phantoms.labels[index + 1][depth]))
    assert np.mean(own) > 0.7
    assert np.mean(other) < 0.3


def test_scar_is_mostly_brighter_than_myocardium_and_by_all_sorts_of_amounts(phantoms):
    differences = []
    for image, labels in zip(phantoms.image, phantoms.labels, strict=True):
        if (labels == 3).sum() > 20 and (labels == 2).sum() > 20:
            differences.append(image[labels == 3].mean() - image[labels == 2].mean())
    assert len(differences) > 20
    assert np.mean(np.array(differences) > 0) > 0.85
    assert np.ptp(differences) > 1


def relative_levels(phantoms, label):
    """(median of a label - myocardium) / (blood - myocardium) of each phantom that has some of all three."""
    levels = []
    for image, labels in zip(phantoms.image, phantoms.labels, strict=True):
        if min(np.count_nonzero(labels == value) for value in (1, 2, label)) > 10:
            blood, myocardium, part = (np.median(image[labels == value]) for value in (1, 2, label))
            levels.append((part - myocardium) / (blood - myocardium))
    return np.array(levels)


def test_scar_is_faint_or_like_blood_or_brighter(phantoms):
    scar = relative_levels(phantoms, 3)
    for low, high in ((0.1, 0.6), (0.85, 1.15), (1.5, 4.0)):
        assert np.mean((scar > low) & (scar < high)) > 0.05, (low, high)


def test_no_reflow_is_darker_than_myocardium_or_nearly_as_bright_as_blood(phantoms):
    no_reflow = relative_levels(phantoms, 4)
    assert np.mean(no_reflow < -0.05) > 0.05
    assert np.mean(no_reflow > 0.7) > 0.05


def test_no_reflow_is_a_speck_of_the_infarct_or_a_large_part_of_it(phantoms):
    shares = [np.mean(labels[labels > 2] == 4) for labels in phantoms.labels if (labels == 4).any()]
    assert np.mean(np.array(shares) < 0.1) > 0.1
    assert np.mean(np.array(shares) > 0.3) > 0.1


def test_single_slices_of_some_stacks_are_noisy(phantoms):
    noisiest = []
    for index, image in enumerate(phantoms.image):
        slices = [image[depth] for depth in range(SHAPE[0]) if valid(phantoms, index)[depth].any()]
        if len(slices) > 2:
            noise = [np.median(np.abs(np.diff(plane)[(plane[:, 1:] != 0) & (plane[:, :-1] != 0)])) for plane in slices]
            noisiest.append(max(noise) / np.median(noise))
    assert 0.05 < np.mean(np.array(noisiest) > 1.5) < 0.5


def test_walls_are_thinner_or_thicker_where_infarcted(hearts):
    """Walls are uneven without infarcts too, but hardly by more than a third on either side of their mean."""
    ratios = []
    for labels in np.asarray(hearts.labels()):
        wall = spokes(labels.transpose(2, 1, 0), (3.0, 3.0, 10.0))
        infarcted, remote = wall.thickness[wall.transmurality > 50], wall.thickness[wall.infarct == 0]
        if min(infarcted.size, remote.size) > 20:
            ratios.append(np.median(infarcted) / np.median(remote))
    assert len(ratios) > 20
    assert np.mean(np.array(ratios) < 0.7) > 0.05
    assert np.mean(np.array(ratios) > 1.2) > 0.05


def test_blood_lies_behind_papillary_muscles_and_they_are_cavity(hearts):
    behind = 0
    for labels, trabeculae in zip(np.asarray(hearts.labels()), hearts.trabeculae, strict=True):
        for plane, muscle in zip(labels, (trabeculae > 0.5) & (labels == 1), strict=True):
            pieces, count = ndimage.label(muscle)
            near_wall = ndimage.distance_transform_edt(plane < 2, sampling=3.0) if (plane > 1).any() else None
            for piece in range(1, count + 1):
                distance = near_wall[pieces == piece].min() if near_wall is not None else 0
                behind += 5 < distance < 10  # mm, at least one voxel of blood
    assert behind > COUNT / 10


def test_large_organs_lie_beside_many_hearts(hearts):
    left, right = np.asarray(hearts.labels()) > 0, np.asarray(hearts.right_labels()) > 0
    organs = np.asarray(hearts.organ_walls) > 0.5
    touching = [
        any((ndimage.binary_dilation(heart, iterations=2) & organ & ~heart).any() for organ in pair)
        for heart, pair in zip(left | right, organs, strict=True)
    ]
    assert 0.3 < np.mean(touching) < 0.9
    areas = organs.sum((2, 3, 4)) / np.maximum(left.sum((1, 2, 3)), 1)[:, None]
    assert np.mean(areas > 1) > 0.1
    assert (np.asarray(hearts.organs) <= np.asarray(hearts.organ_walls) + 1e-6).all()


def test_the_right_ventricle_lies_beside_the_left_in_a_wall_of_its_own(hearts):
    left, right = np.asarray(hearts.labels()), np.asarray(hearts.right_labels())
    assert not (right[left > 0] > 0).any()
    assert 0.6 < np.mean([(labels == 1).any() for labels in right]) < 1
    neighbours = ndimage.generate_binary_structure(2, 1)[None]
    inner = np.s_[:, 1:-1, 1:-1]  # the image's border cuts the wall off
    bare = blood = 0
    for heart, other, atrium in zip(left, right, hearts.atrium_wall > 0.5, strict=True):
        outside = (heart == 0) & (other == 0) & ~atrium
        bare += np.count_nonzero(((other == 1) & ndimage.binary_dilation(outside, neighbours))[inner])
        blood += np.count_nonzero(other == 1)
    assert bare < 0.1 * blood


def test_a_single_slice_is_a_stack_of_one():
    draw = jax.vmap(lambda key: draw_phantom(key, (1, 48, 48), 4.0))
    phantoms = jax.device_get(jax.jit(draw)(jax.random.split(jax.random.key(0), 64)))
    assert phantoms.image.shape == (64, 1, 48, 48)
    with_heart = np.mean([labels.any() for labels in phantoms.labels])
    assert 0.6 < with_heart < 0.99
    assert {1, 2, 3} <= set(np.unique(phantoms.labels))


@pytest.mark.parametrize("depth", [1, 12])
def test_smooth_fields_have_mean_0_variance_1_and_the_scale_that_was_asked_for(depth):
    axes = (jnp.arange(depth) * 10.0, jnp.arange(120) * 2.0, jnp.arange(100) * 2.0)
    fields = np.asarray(jax.jit(lambda scale: smooth_fields(jax.random.key(1), axes, scale, 64))(20.0))
    assert fields.shape == (64, depth, 120, 100)
    assert abs(fields.mean()) < 0.1
    assert 0.8 < fields.var() < 1.2

    def correlation(pixels):
        return np.corrcoef(fields[:, :, :-pixels].ravel(), fields[:, :, pixels:].ravel())[0, 1]

    assert correlation(2) > 0.9  # 4 mm
    assert abs(correlation(45)) < 0.15  # 90 mm


def test_blood_goes_on_where_the_wall_is_open_and_readers_close_the_cavity(hearts):
    cavity = hearts.labels() == 1
    # Below the valve, 10 mm from it at least, only an open wall lets blood of the atrium touch the cavity.
    open_slices = [
        (heart, depth)
        for heart, depth in np.ndindex(cavity.shape[:2])
        if (
            ndimage.binary_dilation(cavity[heart, depth]) & (hearts.atrium[heart, depth] > 0.5) & ~cavity[heart, depth]
        ).any()
    ]
    assert 3 < len({heart for heart, _ in open_slices}) < COUNT / 2
    for heart, depth in open_slices:
        filled = ndimage.binary_fill_holes(cavity[heart, depth])
        hull = ndimage.binary_closing(filled, iterations=3)
        assert filled.sum() > 0.85 * hull.sum()  # no bite is missing
