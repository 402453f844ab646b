"""Cross-validations and predictions on eight devices, on one, and on devices of their own; for `eight_devices.py`."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np

from cascade_jax import checkpoint
from cascade_jax.cascade import Cascade
from cascade_jax.data import emidec, folders
from cascade_jax.data.labels import EMIDEC
from cascade_jax.models import UNet
from cascade_jax.phantoms import simulated
from cascade_jax.plan import Plan, StagePlan
from cascade_jax.spreading import in_order
from cascade_jax.training.crossval import CrossValidation
from cascade_jax.training.preparation import prepare
from launch.configs import default

STEPS = 20


def silent(iterable, _):
    return iterable


def settings(root):
    """Two folds of both stages on small networks, with an optimiser that does not amplify rounding as Adam does."""
    config = default.get_config()
    config.data.root = str(root)
    config.num_folds, config.folds, config.mirror, config.compute_dtype = 2, (0, 1), False, "float32"
    config.plan.spacing, config.plan.shape = (10.0, 5.0, 5.0), (6, 16, 16)
    for stage, plan in ((config.stage1, config.plan.slices), (config.stage2, config.plan.volumes)):
        plan.features, plan.batch_size = (4, 8), 8
        stage.optimizer = "sgd"
        stage.steps, stage.steps_per_dispatch, stage.validate_every, stage.checkpoint_every = STEPS, 1, 10, 10
    return config


def cross_validation(config, workdir, root, devices, plan, examples):
    workdir.mkdir(exist_ok=True)
    files = folders.find_cases(root, labelled=True)
    return CrossValidation(config, workdir, plan, examples, files, silent, devices=devices)


def params_of(workdir, stage, fold):
    return checkpoint.restore_params(workdir / f"stage{stage + 1}" / f"fold{fold}" / "params")


def farthest(one, other):
    """The largest difference of any parameter."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


def labels_in(workdir):
    paths = sorted((workdir / "predictions").rglob("Contours/*.nii.gz"))
    return [emidec.read_labels(path)[0] for path in paths]


def cross_validations(devices, folder):
    """The real path of a run, folds and the labels of their validation cases included."""
    root = folder / "cohort"
    simulated.write_cohort(root, 4, 0, field_of_view_mm=90)
    config = settings(root)
    plan, examples = prepare(root, folder / "prepared", config.plan.to_dict(), 2, silent, EMIDEC)

    def run(name, devices, stages=(0, 1), folds=(0, 1), **changes):
        changed = settings(root)
        changed.update(changes)
        workdir = folder / name
        one = cross_validation(changed, workdir, root, devices, plan, examples)
        for stage in stages:
            one.train(stage, folds)
        return workdir

    one = run("one", devices[:1])
    # The folds of stage one beside each other, each on four devices; those of stage two one after the other, on eight.
    eight = run("eight", devices, stages=(0,), folds_at_once=2)
    run("eight", devices, stages=(1,), folds_at_once=1)
    alone = run("alone", devices[4:], stages=(0,), folds=(1,))
    both = [(stage, fold) for stage in (0, 1) for fold in (0, 1)]
    # The same networks, each of whose folds predicts its two cases on one device again.
    again = folder / "again"
    shutil.copytree(eight, again)
    shutil.rmtree(again / "predictions")
    for stage, marker in ((0, "predictions"), (1, "confidence.csv")):
        for fold in (0, 1):
            path = again / f"stage{stage + 1}" / f"fold{fold}" / marker
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run("again", devices[:1])
    equal = [np.array_equal(a, b) for a, b in zip(labels_in(eight), labels_in(again), strict=True)]
    same_labels = np.mean([(a == b).mean() for a, b in zip(labels_in(one), labels_in(eight), strict=True)])
    return {
        "same_labels": float(same_labels),
        "farthest": [farthest(params_of(one, *which), params_of(eight, *which)) for which in both],
        "moved": [farthest(params_of(eight, stage, 0), params_of(eight, stage, 1)) for stage in (0, 1)],
        "labels_equal": equal,
        "labels_found": len({label for labels in labels_in(eight) for label in np.unique(labels).tolist()}),
        "beside_another_and_alone": farthest(params_of(eight, 0, 1), params_of(alone, 0, 1)),
    }


def predictions(devices):
    """Five cases by an ensemble of two folds: with its folds spread, case by case on three devices, with volumes split
    along their height, and with the mirror images of both folds on four devices each, against one device."""
    networks = (
        UNet((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2))),
        UNet((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2))),
    )
    plan = Plan((10.0, 5.0, 5.0), (6, 16, 16), *(StagePlan(n.features, n.kernel_sizes, n.strides, 2) for n in networks))

    def two_folds(network, shape):
        def one_fold(key):
            return network.init(key, jnp.zeros(shape))["params"]

        return jax.jit(jax.vmap(one_fold))(jax.random.split(jax.random.key(3), 2))

    params = two_folds(networks[0], (1, 16, 16, 1)), two_folds(networks[1], (1, 6, 16, 16, 5))
    cases = [simulated.simulate_case(0, index, field_of_view_mm=90) for index in range(5)]

    def labels_of(devices, number, **how):
        cascade = Cascade(plan, networks, params, (), (0, 1), devices=devices, **how)
        workers = cascade.for_cases(number)
        votes = in_order(lambda worker, case: worker.vote(worker.example(case)), workers, cases[:number])
        return len(workers), list(votes)

    _, without = labels_of(devices[:1], 5)
    _, mirrored = labels_of(devices[:1], 2, mirror=True)

    def compare(devices, number, expected=without, **how):
        workers, votes = labels_of(devices, number, **how)
        pairs = list(zip(votes, expected, strict=False))
        return {
            "workers": workers,
            "labels_equal": all(np.array_equal(one.labels, other.labels) for one, other in pairs),
            "probabilities_apart": max(float(abs(a.probabilities - b.probabilities).max()) for a, b in pairs),
        }

    return {
        "folds": compare(devices[:2], 1),
        "cases": compare(devices[:3], 5),
        "height": compare(devices, 1, split_volumes=True),
        "mirror images": compare(devices, 1, mirrored, mirror=True),
        "cases by groups": compare(devices, 2, mirrored, mirror=True),
    }
