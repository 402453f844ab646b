"""Stage one trained on real cases with one thing changed: what each change to the recipe gives.

python -m launch.benchmarks.recipe --cohort=DIR --change=none --workdir=DIR [--folds=0,1] [--seed=0]

400 steps from the weights in the box, images of 144 x 144 voxels of 1.8 mm, 8 slices a step; the fold's cases are
judged in the reader's own voxels, before and after the postprocessing. `--change=soup` averages the weights that
`--change=none` left in the working folder with seeds 0 and 1; `--change=mirror` judges the weights of seed 0 again.
`--change="whole heart"` takes the folder of a finished cross-validation, and asks whether an infarct is there by the
volume of each of its components or by that of all of them, the volume chosen on the other folds.
"""

import dataclasses
import functools
from pathlib import Path

from absl import flags

from launch import command

# Each change is a set of the settings that `_Recipe` has.
CHANGES = {
    "none": {},
    "learning rate 0.003": {"learning_rate": 0.003},
    "learning rate 0.0003": {"learning_rate": 0.0003},
    "cosine": {"schedule": "cosine"},
    "balance": {"balance": 0.5},
    "targets": {"loss": "targets"},
    "focal": {"loss": "focal"},
    "tversky": {"loss": "tversky"},
    "percase": {"loss": "percase"},
    "neighbours": {"neighbours": 1},
    "augmentation": {
        "augmentation": {"gamma_probability": 0.6, "contrast_probability": 0.3, "blur_probability": 0.4},
    },
    "phantoms": {"phantoms": 2},
    "average": {"average": 0.99},
    "mirror": {"mirror": True},
    "spacing": {"spacing": 1.46},
    "soup": {},
    "whole heart": {},
}
STEPS, BATCH, WINDOW, CLASSES = 400, 8, 144, 5
COHORT = flags.DEFINE_string("cohort", None, "Labelled scans.")
CHANGE = flags.DEFINE_enum("change", "none", sorted(CHANGES), "What is changed.")
FOLDS = flags.DEFINE_list("folds", ["0", "1"], "Folds to train.")
SEED = flags.DEFINE_integer("seed", 0, "Draws of the training.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where trained weights go.")


@dataclasses.dataclass(frozen=True)
class _Recipe:
    learning_rate: float = 0.001
    schedule: str = "polynomial"
    balance: float = 0.0  # share of slices that hold infarct, a third of them no-reflow
    loss: str = "plain"
    neighbours: int = 0  # slices on either side, as channels
    augmentation: dict = dataclasses.field(default_factory=dict)
    phantoms: int = 0  # of the batch
    average: float = 0.0  # decay of the running mean of the weights
    mirror: bool = False
    spacing: float = 1.8


def main() -> None:
    command.configure_jax()
    import jax.numpy as jnp
    import numpy as np
    from flax.traverse_util import flatten_dict, unflatten_dict

    from cascade_jax.cascade import load
    from cascade_jax.data import folders
    from cascade_jax.data.emidec import read_case
    from cascade_jax.models.unet import UNet
    from cascade_jax.training.crossval import make_folds

    if CHANGE.value == "whole heart":
        return _decide()
    recipe = _Recipe(**CHANGES[CHANGE.value])
    cases = {f.name: read_case(f) for f in folders.find_cases(Path(COHORT.value), labelled=True)}
    box = load("pretrained")
    shipped = box.networks[0]
    network = UNet(shipped.features, shipped.kernel_sizes, shipped.strides, CLASSES, jnp.float32)
    held_out = make_folds(sorted(cases), 5, 0)
    workdir = Path(WORKDIR.value)
    workdir.mkdir(parents=True, exist_ok=True)

    def weights(seed: int, fold: int) -> Path:
        return workdir / f"seed{seed}_fold{fold}.npz"

    def read(path: Path):
        with np.load(path) as stored:
            return unflatten_dict({tuple(k.split("/")): jnp.asarray(stored[k]) for k in stored.files})

    everything: dict = {}
    for fold in map(int, FOLDS.value):
        if CHANGE.value == "soup":
            params = functools.reduce(_mean, [read(weights(seed, fold)) for seed in (0, 1)])
        elif recipe.mirror:
            params = read(weights(0, fold))
        else:
            inside = {n: c for n, c in cases.items() if n not in set(held_out[fold])}
            params = _train(network, _first(box.fold_params(0, 0), recipe), inside, recipe, SEED.value * 10 + fold)
            if CHANGE.value == "none":
                flat = {"/".join(k): np.asarray(v) for k, v in flatten_dict(params).items()}
                np.savez_compressed(weights(SEED.value, fold), **flat)
        judged = {n: _judge(network, params, cases[n], recipe) for n in held_out[fold]}
        _report(f"fold {fold}", judged)
        everything |= judged
    _report("all", everything)


def _mean(a, b):
    import jax

    return jax.tree.map(lambda x, y: (x + y) / 2, a, b)


def _first(params, recipe: _Recipe):
    """The box's weights, with zeros for channels that it did not have."""
    import jax.numpy as jnp
    from flax.traverse_util import flatten_dict, unflatten_dict

    n = recipe.neighbours
    flat = flatten_dict(params)
    for key, kernel in flat.items():
        if n and "encoder0" in key[0] and kernel.ndim == 4 and kernel.shape[2] == 1:
            wider = jnp.zeros((*kernel.shape[:2], 1 + 2 * n, kernel.shape[3]))
            flat[key] = wider.at[:, :, n : n + 1].set(kernel)
    return unflatten_dict(flat)


def _train(network, params, cases: dict, recipe: _Recipe, seed: int):
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from cascade_jax.data import augment
    from cascade_jax.data.preprocess import preprocess
    from cascade_jax.phantoms.random_phantom import draw_phantom

    examples = [preprocess(c, (recipe.spacing, recipe.spacing), (10, WINDOW, WINDOW)) for _, c in sorted(cases.items())]
    data = {
        "image": jnp.stack([e.image for e in examples]),
        "labels": jnp.stack([e.labels for e in examples]),
        "extent": jnp.asarray([e.grid.extent for e in examples]),
    }
    pools, counts = [], []
    for smallest in (0, 3, 4):
        entries = [
            (case, index)
            for case, e in enumerate(examples)
            for index in range(*np.asarray(e.grid.extent)[0])
            if (e.labels[index] >= smallest).any()
        ]
        counts.append(len(entries))
        pools.append(entries + [(0, 0)] * (10 * len(examples) - len(entries)))
    pools, counts = jnp.asarray(pools), jnp.asarray(counts)
    settings = augment.Augmentation(**recipe.augmentation)

    def draw(key, data):
        kind_key, case_key, augment_key, _ = jax.random.split(key, 4)
        u = jax.random.uniform(kind_key)
        kind = jnp.where(u < recipe.balance / 3, 2, jnp.where(u < recipe.balance, 1, 0))
        case, index = pools[kind, jax.random.randint(case_key, (), 0, counts[kind])]
        extent = data["extent"][case]
        n = recipe.neighbours
        rows = jnp.clip(index + jnp.arange(-n, n + 1), extent[0, 0], extent[0, 1] - 1)
        labels = jnp.broadcast_to(data["labels"][case, index], (2 * n + 1, WINDOW, WINDOW))
        extent = extent.at[0].set(jnp.array([0, 2 * n + 1]))
        image, labels, _, valid = augment.augment(
            augment_key, data["image"][case, rows], labels, None, extent, settings
        )
        return jnp.moveaxis(image, 0, -1), labels[n], valid[n]

    def draw_simulated(key):
        phantom = draw_phantom(key, (1, WINDOW, WINDOW), recipe.spacing)
        valid = augment.inside_extent((1, WINDOW, WINDOW), phantom.extent)
        return phantom.image[0, ..., None], phantom.labels[0], valid[0]

    rate = recipe.learning_rate
    schedule = (
        optax.polynomial_schedule(rate, 0.0, 0.9, STEPS)
        if recipe.schedule == "polynomial"
        else optax.warmup_cosine_decay_schedule(0.0, rate, STEPS // 20, STEPS)
    )
    optimizer = optax.chain(optax.clip_by_global_norm(12.0), optax.adam(schedule))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, key, data):
        params, optimizer_state, average = state
        key, phantom_key = jax.random.split(key)
        real = BATCH - recipe.phantoms
        batch = jax.vmap(lambda k: draw(k, data))(jax.random.split(key, real))
        if recipe.phantoms:
            simulated = jax.vmap(draw_simulated)(jax.random.split(phantom_key, recipe.phantoms))
            batch = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), batch, simulated)
        x, y, valid = batch

        def loss(p):
            return _loss(recipe.loss, network.apply({"params": p}, x, deep_supervision=True), y, valid)

        updates, optimizer_state = optimizer.update(jax.grad(loss)(params), optimizer_state, params)
        params = optax.apply_updates(params, updates)
        d = recipe.average
        return params, optimizer_state, jax.tree.map(lambda a, p: d * a + (1 - d) * p, average, params)

    params = jax.tree.map(jnp.asarray, params)
    state = params, optimizer.init(params), jax.tree.map(jnp.copy, params)
    key = jax.random.key(seed)
    for index in range(STEPS):
        state = step(state, jax.random.fold_in(key, index), data)
    return state[2] if recipe.average else state[0]


def _loss(kind: str, outputs, labels, valid):
    """The paper's cross-entropy and Dice at all depths, and a term on the finest one."""
    import jax
    import jax.numpy as jnp

    from cascade_jax.losses import deep_supervision_loss

    base = deep_supervision_loss(outputs, labels, valid)
    mask = valid[..., None].astype(jnp.float32)
    truth = jax.nn.one_hot(labels, CLASSES) * mask
    p = jax.nn.softmax(outputs[0]) * mask
    if kind == "focal":  # Lin 2017, gamma 2
        return base + 4 * jnp.sum(-((1 - p) ** 2) * truth * jax.nn.log_softmax(outputs[0])) / mask.sum()
    if kind == "tversky":  # Salehi 2017 of infarction and no-reflow, misses weighted 0.7
        axes = (0, 1, 2)
        overlap, false, missed = ((p * truth).sum(axes), (p * (mask - truth)).sum(axes), ((mask - p) * truth).sum(axes))
        return base + (1 - (overlap + 1e-5) / (overlap + 0.3 * false + 0.7 * missed + 1e-5))[3:].mean()
    if kind == "percase":  # Dice of each slice
        overlap, total = (p * truth).sum((1, 2)), (p + truth).sum((1, 2))
        return base + (1 - (2 * overlap + 1) / (total + 1))[:, 1:].mean()
    if kind == "targets":  # Dice of the challenge's myocardium and infarction

        def missing(channels):
            a, b = p[..., channels].sum(-1), truth[..., channels].sum(-1)
            return 1 - (2 * jnp.sum(a * b) + 1e-5) / (a.sum() + b.sum() + 1e-5)

        return base + (missing(jnp.array([2, 3, 4])) + missing(jnp.array([3, 4]))) / 2
    return base


def _judge(network, params, case, recipe: _Recipe) -> dict:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cascade_jax.data.labels import EMIDEC
    from cascade_jax.data.preprocess import bounding_box, preprocess, resampled_shape, restore_labels
    from cascade_jax.metrics import evaluate_labels
    from cascade_jax.models.graph import segment_slices
    from cascade_jax.postprocess import Rule, apply

    box = [stop - start for start, stop in bounding_box(case.image)]
    depth = resampled_shape(box, case.spacing, (recipe.spacing, recipe.spacing))[0]
    example = preprocess(case, (recipe.spacing, recipe.spacing), (depth, WINDOW, WINDOW))
    n = recipe.neighbours
    if n:
        rows = jnp.clip(jnp.arange(depth)[:, None] + jnp.arange(-n, n + 1), 0, depth - 1)
        logits = network.apply({"params": params}, jnp.moveaxis(jnp.asarray(example.image)[rows], 1, -1))
        probabilities = np.asarray(jax.nn.softmax(logits))
    else:
        segment = jax.jit(functools.partial(segment_slices, network, mirror=recipe.mirror))
        probabilities = np.asarray(segment(params, example.image))
    background = np.eye(CLASSES, dtype=np.float32)[0]
    raw = restore_labels(np.where(example.valid[..., None], probabilities, background), example.grid)
    rules = (
        Rule("largest_heart"),
        Rule("one_ventricle"),
        Rule("islands_outside_myocardium"),
        Rule("small_infarction", 1600.0),
        Rule("small_no_reflow", 400.0),
    )
    return {
        "infarcted": bool((case.labels >= 3).any()),
        "raw": evaluate_labels(raw, case.labels, case.spacing, EMIDEC),
        "postprocessed": evaluate_labels(apply(rules, raw, case.spacing), case.labels, case.spacing, EMIDEC),
    }


def _decide() -> None:
    import json

    import numpy as np
    from scipy import ndimage

    from cascade_jax.data import folders
    from cascade_jax.data.emidec import contour_path, read_case, read_labels
    from cascade_jax.metrics import dice
    from cascade_jax.postprocess import Rule, apply

    run = Path(WORKDIR.value)
    files = {f.name: f for f in folders.find_cases(Path(COHORT.value), labelled=True)}
    folds = json.loads((run / "folds.json").read_text())
    least_ml = np.arange(0.0, 4.1, 0.2)
    scores: dict = {"component": {}, "whole heart": {}}
    for name in files:
        case = read_case(files[name])
        labels = read_labels(contour_path(run / "predictions" / "stage2", name))[0]
        rules = (Rule("largest_heart"), Rule("one_ventricle"), Rule("islands_outside_myocardium"))
        infarct, truth = apply(rules, labels, case.spacing) >= 3, case.labels >= 3
        voxel_ml = np.prod(case.spacing) / 1000
        pieces, _ = ndimage.label(infarct, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel()) * voxel_ml
        sizes[0] = 0
        whole = infarct.sum() * voxel_ml
        scores["component"][name] = [dice((sizes >= ml)[pieces] & infarct, truth) for ml in least_ml]
        scores["whole heart"][name] = [dice(infarct & (whole >= ml), truth) for ml in least_ml]
    for kind, by_case in scores.items():
        chosen = []
        for fold in folds:
            others = np.mean([by_case[name] for name in files if name not in fold], axis=0)
            chosen += [by_case[name][int(np.argmax(others))] for name in fold]
        print(f"| {kind} | infarction {100 * np.mean(chosen):.1f} |")


def _report(title: str, judged: dict) -> None:
    import numpy as np

    targets = ("myocardium", "infarction", "no_reflow")
    cells = [f"{CHANGE.value}, {title}"]
    for kind in ("raw", "postprocessed"):
        cells += [f"{100 * np.mean([r[kind][t]['dice'] for r in judged.values()]):.1f}" for t in targets]
    infarcted = [r["raw"] for r in judged.values() if r["infarcted"]]
    cells += [f"{100 * np.mean([r[t]['dice'] for r in infarcted]):.1f}" for t in targets[1:]]
    cells.append(f"{np.nanmean([r['raw']['myocardium']['hausdorff_emidec_mm'] for r in judged.values()]):.1f}")
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    command.run(main, required=("cohort", "workdir"))
