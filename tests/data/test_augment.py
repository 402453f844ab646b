"""Augmentation moves image, labels and prior together and leaves padding alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cascade_jax.data import augment
from cascade_jax.data.augment import Augmentation, PriorCorruption

NOTHING = Augmentation(
    **{f.name: 0.0 for f in dataclasses.fields(Augmentation) if f.name.endswith("_probability")}, mirror_plane=False
)
SHAPE = (5, 24, 20)
EXTENT = jnp.array([[0, 4], [2, 22], [1, 19]])


@pytest.fixture(scope="module")
def volume():
    random = np.random.default_rng(0)
    inside = np.asarray(augment.inside_extent(SHAPE, EXTENT))
    smooth = ndimage.gaussian_filter(random.normal(size=(4, *SHAPE)), (0, 0, 2, 2))
    labels = np.where(inside, smooth.argmax(0) + 1, 0).astype(np.uint8)
    return jnp.array(np.where(inside, labels - 2.5, 0).astype(np.float32)), jnp.array(labels)


compiled = jax.jit(augment.augment, static_argnames="settings")
corrupt = jax.jit(augment.corrupt_prior, static_argnames=("settings", "num_classes"))


def run(volume, settings, seed=0):
    image, labels = volume
    results = compiled(jax.random.key(seed), image, labels, labels, EXTENT, settings=settings)
    return [np.asarray(array) for array in results]


def test_nothing_switched_on_changes_nothing(volume):
    image, labels, prior, valid = run(volume, NOTHING)
    np.testing.assert_allclose(image, volume[0], atol=1e-5)
    np.testing.assert_array_equal(labels, volume[1])
    np.testing.assert_array_equal(prior, volume[1])
    np.testing.assert_array_equal(valid, augment.inside_extent(SHAPE, EXTENT))


@pytest.mark.parametrize(
    "settings",
    [
        dataclasses.replace(NOTHING, rotation_probability=1.0),
        dataclasses.replace(NOTHING, scaling_probability=1.0),
        dataclasses.replace(NOTHING, elastic_probability=1.0),
        dataclasses.replace(NOTHING, slice_shift_probability=1.0),
        dataclasses.replace(NOTHING, mirror_plane=True, mirror_depth=True),
    ],
    ids=["rotation", "scaling", "elastic", "slice shift", "mirroring"],
)
def test_labels_and_prior_move_with_the_image(volume, settings):
    moved = 0
    for seed in range(4):
        image, labels, prior, valid = run(volume, settings, seed)
        np.testing.assert_array_equal(labels, prior)
        moved += not np.array_equal(labels, volume[1])
        # Intensities are a function of the label; interpolation blurs it at borders only.
        core = ndimage.binary_erosion(valid, np.ones((1, 5, 5)))
        core &= ndimage.maximum_filter(labels, (1, 3, 3)) == ndimage.minimum_filter(labels, (1, 3, 3))
        assert np.mean(np.abs(image[core] - (labels[core] - 2.5)) < 0.05) > 0.9
        assert not image[~valid].any()
        assert not labels[~valid].any()
    assert moved == 4 or (settings.mirror_plane and moved)


def test_mirroring_is_an_exact_flip(volume):
    seen = set()
    for seed in range(40):
        image, labels, _, _ = run(volume, dataclasses.replace(NOTHING, mirror_plane=True), seed)
        for axes in ((), (1,), (2,), (1, 2)):
            if np.allclose(image, np.flip(volume[0], axes), atol=1e-5):
                np.testing.assert_array_equal(labels, np.flip(volume[1], axes))
                seen.add(axes)
    assert len(seen) == 4


def test_growing_twofold_looks_half_as_far_from_the_centre():
    positions = np.asarray(
        augment.source_positions(
            jax.random.key(0),
            (1, 9, 9),
            dataclasses.replace(NOTHING, scaling_probability=1.0, scaling=(2.0, 2.0)),
        )
    )[:, 0]
    rows, columns = np.indices((9, 9))
    np.testing.assert_allclose(positions, [4 + (rows - 4) / 2, 4 + (columns - 4) / 2], atol=1e-5)


def test_sampling_is_scipys_linear_interpolation():
    random = np.random.default_rng(1)
    image = random.normal(size=(3, 12, 10)).astype(np.float32)
    positions = random.uniform(-3, 14, (2, 3, 7, 6)).astype(np.float32)
    expected = [
        ndimage.map_coordinates(plane, positions[:, index], order=1, mode="nearest")
        for index, plane in enumerate(image)
    ]
    np.testing.assert_allclose(augment.sample_linear(jnp.array(image), jnp.array(positions)), expected, atol=1e-5)


def test_blurring_is_a_gaussian_filter():
    line = np.random.default_rng(2).normal(size=40)
    expected = ndimage.gaussian_filter1d(line, 0.8, truncate=8)
    np.testing.assert_allclose((augment.blurring_matrix(40, 0.8) @ line)[8:-8], expected[8:-8], atol=1e-5)


def test_full_resolution_and_no_blur_are_the_identity():
    np.testing.assert_allclose(augment._lowering(9, 1.0), np.eye(9), atol=1e-6)
    np.testing.assert_allclose(augment.blurring_matrix(9, 0.0), np.eye(9), atol=1e-6)


@pytest.mark.parametrize("name", ["noise", "blur", "brightness", "contrast", "low_resolution", "gamma"])
def test_intensities_change_and_padding_does_not(volume, name):
    settings = dataclasses.replace(NOTHING, **{f"{name}_probability": 1.0})
    image, labels, _, valid = run(volume, settings)
    assert np.abs(image - volume[0])[valid].max() > 0.01
    np.testing.assert_array_equal(labels, volume[1])
    assert not image[~valid].any()


def test_gamma_keeps_mean_and_deviation(volume):
    image, _, _, valid = run(volume, dataclasses.replace(NOTHING, gamma_probability=1.0))
    before = np.asarray(volume[0])
    assert image[valid].mean() == pytest.approx(before[valid].mean(), abs=1e-3)
    assert image[valid].std() == pytest.approx(before[valid].std(), rel=1e-3)


def test_a_connected_component_is_scipys(volume):
    mask = np.asarray(volume[1]) == 2
    components, count = ndimage.label(mask)
    assert count > 1
    for component in range(1, count + 1):
        seed = np.zeros_like(mask)
        seed.flat[np.flatnonzero(components == component)[0]] = True
        found = augment.connected_component(jnp.array(mask), jnp.array(seed))
        np.testing.assert_array_equal(found, components == component)


def test_a_dropped_component_goes_whole_and_alone(volume):
    settings = PriorCorruption(reshape_probability=0.0, drop_probability=1.0)
    prior = np.asarray(volume[1])
    dropped_sizes = set()
    for seed in range(6):
        result = np.asarray(corrupt(jax.random.key(seed), prior, settings=settings, num_classes=5))
        gone = (prior != result) & (prior > 0)
        assert not result[gone].any()
        (label,) = np.unique(prior[gone])
        components, _ = ndimage.label(prior == label)
        (component,) = np.unique(components[gone])
        np.testing.assert_array_equal(gone, components == component)
        dropped_sizes.add(int(gone.sum()))
    assert len(dropped_sizes) > 1


@pytest.mark.parametrize("num_classes", [3, 6])
def test_every_label_of_the_table_is_dropped_as_often_as_any_other(num_classes):
    prior = np.zeros((1, 8, 8 * num_classes), np.uint8)
    for label in range(1, num_classes):
        prior[0, 2:6, 8 * label : 8 * label + 4] = label
    settings = PriorCorruption(reshape_probability=0.0, drop_probability=1.0)
    keys = jax.random.split(jax.random.key(0), 400)
    corrupted = jax.vmap(lambda key: augment.corrupt_prior(key, jnp.array(prior), settings, num_classes))(keys)
    gone = [np.mean(~(np.asarray(corrupted) == label).any((1, 2, 3))) for label in range(1, num_classes)]
    np.testing.assert_allclose(gone, 1 / (num_classes - 1), atol=0.1)


@pytest.mark.parametrize("num_classes", [3, 6])
def test_every_label_of_the_table_is_reshaped_and_no_other_appears(num_classes):
    prior = np.zeros((1, 12, 12 * num_classes), np.uint8)
    for label in range(1, num_classes):
        prior[0, 3:9, 12 * label + 3 : 12 * label + 9] = label
    settings = PriorCorruption(reshape_probability=1.0, reshape_pixels=1, drop_probability=0.0)
    keys = jax.random.split(jax.random.key(0), 200)
    reshaped = jax.vmap(lambda key: augment.corrupt_prior(key, jnp.array(prior), settings, num_classes))(keys)
    sizes = np.array([np.bincount(one.ravel(), minlength=num_classes)[1:] for one in np.asarray(reshaped)])
    assert ((sizes != 36).sum(1) == 1).all(), "one label of each prior, and always one that there is"
    assert (sizes != 36).any(0).all(), "and each label in its turn"


def test_reshaping_dilates_or_erodes_one_label_in_the_plane():
    prior = np.zeros((3, 20, 20), np.uint8)
    prior[1, 5:15, 5:15] = 1
    settings = PriorCorruption(reshape_probability=1.0, reshape_pixels=2, drop_probability=0.0)
    plane = prior[1] == 1
    expected = {
        operation(
            plane, iterations=reach, **({"border_value": 1} if operation is ndimage.binary_erosion else {})
        ).tobytes()
        for operation in (ndimage.binary_dilation, ndimage.binary_erosion)
        for reach in (1, 2)
    }
    seen = set()
    for seed in range(40):
        result = np.asarray(corrupt(jax.random.key(seed), prior, settings=settings, num_classes=5))
        assert not result[[0, 2]].any()
        if (result == prior).all():  # another, absent label was chosen
            continue
        seen.add((result[1] == 1).tobytes())
    assert seen == expected


def test_the_same_key_gives_the_same_and_another_key_another(volume):
    first, again, other = run(volume, Augmentation(), 1), run(volume, Augmentation(), 1), run(volume, Augmentation(), 2)
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])
