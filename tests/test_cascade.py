"""The inference graph: mapped folds vote as single folds would."""

import functools
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_jax.cascade import Cascade
from cascade_jax.data.case import Case, CaseError
from cascade_jax.models import UNet, segment, segment_slices, segment_volume
from cascade_jax.models.graph import count_votes, most_probable, one_hot_prior, vote_of_folds
from cascade_jax.models.unet import params_like

NETWORKS = (
    UNet((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2))),
    UNet((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (2, 2, 2))),
)


@pytest.fixture(scope="module")
def params():
    inputs = jnp.zeros((1, 8, 8, 1)), jnp.zeros((1, 4, 8, 8, 5))

    def one_fold(key):
        # Large parameters, so that random networks disagree.
        return tuple(
            jax.tree.map(lambda leaf: 3 * leaf, network.init(key, image, deep_supervision=True)["params"])
            for network, image in zip(NETWORKS, inputs, strict=True)
        )

    folds = [one_fold(jax.random.key(seed)) for seed in range(3)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *folds)


@pytest.mark.parametrize("mirror", [False, True])
def test_the_mapped_graph_gives_each_fold_what_it_gives_alone(params, mirror):
    image = jax.random.normal(jax.random.key(7), (4, 8, 8))
    valid = jnp.ones(image.shape, bool).at[3].set(False)
    result = jax.jit(functools.partial(segment, NETWORKS, mirror=mirror))(params, image, valid)
    probabilities = []
    for fold in range(3):
        slices, volume = jax.tree.map(lambda leaf, fold=fold: leaf[fold], params)
        prior = most_probable(segment_slices(NETWORKS[0], slices, image, mirror=mirror)).at[3].set(0)
        np.testing.assert_array_equal(result.fold_priors[fold], prior)
        probabilities.append(segment_volume(NETWORKS[1], volume, image, prior, mirror=mirror)[:3])
        np.testing.assert_array_equal(result.fold_labels[fold][:3], most_probable(probabilities[-1]))
    np.testing.assert_allclose(result.probabilities[:3], np.mean(probabilities, axis=0), atol=1e-5)
    assert not np.asarray(result.labels[3]).any(), "padding is background"
    assert len({np.asarray(labels).tobytes() for labels in result.fold_labels}) == 3
    labels, counts = count_votes(result.fold_labels, result.probabilities)
    np.testing.assert_array_equal(result.labels, labels)
    np.testing.assert_array_equal(result.counts, counts)
    assert result.labels.dtype == result.counts.dtype == jnp.uint8
    assert (np.asarray(result.counts).sum(-1) == 3).all()


@pytest.mark.parametrize(("mirror", "windows"), [(False, None), (True, None), (False, ((6, 8), (4, 6)))])
@pytest.mark.parametrize("folds", [1, 2, 3])
def test_a_cascade_computes_what_the_graph_says(params, folds, mirror, windows):
    params = jax.tree.map(lambda leaf: leaf[:folds], params)
    image = jax.random.normal(jax.random.key(7), (4, 8, 8))
    valid = jnp.ones(image.shape, bool).at[3].set(False)
    expected = jax.jit(functools.partial(segment, NETWORKS, mirror=mirror, windows=windows))(params, image, valid)
    cascade = Cascade(SimpleNamespace(windows=windows), NETWORKS, params, (), range(folds), mirror)
    vote = cascade.vote(SimpleNamespace(image=image, valid=valid))
    for name in ("labels", "counts", "fold_priors", "fold_labels"):
        np.testing.assert_array_equal(getattr(vote, name), getattr(expected, name))
    np.testing.assert_allclose(vote.probabilities, expected.probabilities, atol=1e-6)


def test_weights_are_known_by_their_name_and_what_they_are(params):
    def known_by(params, name):
        return Cascade(SimpleNamespace(windows=None), NETWORKS, params, (), range(3), name=name).weights

    other = (params[0], jax.tree.map(lambda leaf: leaf.at[0].add(1e-6), params[1]))
    name, digits = known_by(params, "mine").split()
    assert (name, len(digits)) == ("mine", 12)
    assert known_by(jax.tree.map(jnp.copy, params), "yours") == f"yours {digits}"
    assert known_by(other, "mine") != f"mine {digits}"


def test_a_case_that_the_devices_memory_is_too_small_for_fails_alone_and_is_named():
    def vote(_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1000 bytes.\nin a stack")

    full = SimpleNamespace(example=lambda case: case, vote=vote)
    case = Case("Case_A", np.zeros((1, 2, 2), np.float32), None, (1.0, 1.0, 1.0))
    with pytest.raises(CaseError, match=r"^Case_A: the device's memory is too small for it \(RES[^\n]*$"):
        Cascade.segment_case(full, case)


def test_threads_that_segment_at_the_same_time_get_what_one_gets():
    """At nnU-Net's size, where XLA with the experimental flag of `cascade_jax.cpu` computes some convolutions wrongly
    when two programs run at once."""
    slices = UNet((32, 64, 128, 256, 512, 512), ((3, 3),) * 6, ((1, 1), *((2, 2),) * 5))
    generator = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: generator.normal(scale=0.03, size=leaf.shape).astype(np.float32), params_like(slices, (32, 32, 1))
    )
    volumes = NETWORKS[1].init(jax.random.key(1), jnp.zeros((1, 4, 8, 8, 5)))["params"]
    folds = jax.tree.map(lambda leaf: leaf[None], (params, volumes))
    image = np.asarray(jax.random.normal(jax.random.key(2), (20, 256, 224)))
    cascade = Cascade(SimpleNamespace(windows=None), (slices, NETWORKS[1]), folds, (), range(1))
    example = SimpleNamespace(image=image, valid=np.ones(image.shape, bool))
    alone = cascade.vote(example)
    with ThreadPoolExecutor(2) as pool:
        for vote in pool.map(cascade.vote, [example] * 2):
            np.testing.assert_array_equal(vote.fold_priors, alone.fold_priors)


def test_slices_of_padding_have_no_prior_and_the_others_their_own(params):
    volumes = UNet((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)))
    one_fold = jax.jit(volumes.init)(jax.random.key(1), jnp.zeros((1, 5, 8, 8, 5)))["params"]
    both = params[0], jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), one_fold)
    image = jax.random.normal(jax.random.key(7), (5, 8, 8))
    graph = jax.jit(functools.partial(segment, (NETWORKS[0], volumes)))
    slices = jax.jit(jax.vmap(lambda params: most_probable(segment_slices(NETWORKS[0], params, image))))(params[0])
    for padding in ((0,), (0, 1), (0, 1, 4), (2, 4)):
        valid = np.ones(image.shape, bool)
        valid[list(padding)] = valid[3, :2] = False
        np.testing.assert_array_equal(graph(both, image, valid).fold_priors, np.where(valid, slices, 0))


def test_mirrored_inference_does_not_care_how_the_image_is_mirrored(params):
    image = jax.random.normal(jax.random.key(7), (4, 8, 8))
    slices = jax.tree.map(lambda leaf: leaf[0], params)[0]
    straight = segment_slices(NETWORKS[0], slices, image, mirror=True)
    mirrored = segment_slices(NETWORKS[0], slices, image[:, ::-1], mirror=True)
    np.testing.assert_allclose(mirrored[:, ::-1], straight, atol=1e-5)


def test_the_majority_wins_and_a_tie_goes_to_the_label_with_the_higher_mean_probability():
    folds = jnp.array([[1], [1], [1], [3], [3]], jnp.uint8)[:, :, None, None]
    probabilities = jnp.array([0.0, 0.2, 0.0, 0.8, 0.0])[None, None, None]
    labels, counts = count_votes(folds, probabilities)
    assert labels.item() == 1
    assert counts.ravel().tolist() == [0, 3, 0, 2, 0]
    tied = jnp.array([[1], [1], [3], [3], [4]], jnp.uint8)[:, :, None, None]
    assert count_votes(tied, probabilities)[0].item() == 3
    assert count_votes(tied, probabilities[..., ::-1])[0].item() == 1
    # The label with the highest mean probability of all may have too few votes to matter.
    assert count_votes(tied, jnp.array([0.0, 0.2, 0.0, 0.1, 0.7])[None, None, None])[0].item() == 1


def test_the_vote_does_not_know_which_fold_came_first():
    random = np.random.default_rng(3)
    # Eighths add up without rounding, so that ties stay ties.
    probabilities = (random.integers(0, 9, (5, 3, 6, 6, 5)) / 8).astype(np.float32)
    priors = random.integers(0, 5, (5, 3, 6, 6)).astype(np.uint8)
    expected = vote_of_folds(priors, jnp.asarray(probabilities))
    for order in ([4, 3, 2, 1, 0], [1, 4, 0, 2, 3]):
        vote = vote_of_folds(priors[order], jnp.asarray(probabilities[order]))
        for name in ("labels", "counts", "probabilities"):
            np.testing.assert_array_equal(getattr(vote, name), getattr(expected, name))
        np.testing.assert_array_equal(vote.fold_labels, expected.fold_labels[np.array(order)])


@pytest.mark.parametrize("stage", [0, 1])
def test_what_travels_in_the_same_batch_changes_nothing(params, stage):
    one_fold = jax.tree.map(lambda leaf: leaf[0], params)[stage]
    shape = ((6, 8, 8, 1), (3, 4, 8, 8, 5))[stage]
    inputs = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    apply = jax.jit(lambda inputs: NETWORKS[stage].apply({"params": one_fold}, inputs))
    together = np.asarray(apply(inputs))
    others = inputs.copy()
    others[1:] = 50 * inputs[1:] + 7
    np.testing.assert_allclose(apply(others)[0], together[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(apply(inputs[::-1])[::-1], together, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(apply(inputs[:1])[0], together[0], rtol=1e-4, atol=1e-4)


def test_the_prior_is_one_hot_without_background():
    prior = one_hot_prior(jnp.arange(5, dtype=jnp.uint8), 5)
    np.testing.assert_array_equal(prior, np.eye(5)[:, 1:])
