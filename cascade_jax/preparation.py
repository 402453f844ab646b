"""From a cohort in the challenge's layout to the plan and the prepared examples."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from absl import logging

from cascade_jax.data import emidec, store
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import write_text
from cascade_jax.data.preprocess import Example, field_of_view, preprocess, resampled_shape
from cascade_jax.plan import Plan, make_plan

Progress = Callable[[Iterable, str], Iterable]


def prepare(
    root: Path, folder: Path, overrides: Mapping, minimum_cases: int, progress: Progress
) -> tuple[Plan, list[Example]]:
    """Reads and checks every case, plans, preprocesses, and keeps all that in `folder` for the next time.

    Args:
        root: the cohort, every case with its labels.
        folder: for `plan.json` and the prepared examples.
        overrides: of the plan, as `make_plan` takes them.
        minimum_cases: fewer cases than this are refused.
        progress: wraps the loop over cases with a bar.

    Returns:
        The plan, and one example for each case, sorted by name.

    Raises:
        CaseError: a file or the cohort is unusable.
        ValueError: an override does not fit.
    """
    files = emidec.find_cases(root, labelled=True)
    if len(files) < minimum_cases:
        raise CaseError(root, f"has {len(files)} cases, fewer than the {minimum_cases} folds of the cross-validation")
    provenance = {
        "overrides": json.loads(json.dumps(overrides)),
        "files": [
            [file.name] + [[path.stat().st_size, path.stat().st_mtime_ns] for path in (file.image, file.contour)]
            for file in files
        ],
    }
    if store.read_provenance(folder / "cohort") == provenance:
        return Plan.from_json(json.loads((folder / "plan.json").read_text())), store.read_cohort(folder / "cohort")

    # Every case is read before anything is written: a fault in the last file must not be found after an hour.
    cases = [emidec.read_case(file) for file in progress(files, f"reading {len(files)} cases of {root}")]
    shapes = [[stop - start for start, stop in field_of_view(case.image)] for case in cases]
    plan = make_plan(shapes, [case.spacing for case in cases], overrides)
    examples = [
        preprocess(case, plan.spacing[1:], plan.shape)
        for case in progress(cases, f"preparing {len(cases)} cases: {describe(plan)}")
    ]
    for case, shape in zip(cases, shapes, strict=True):
        needed = resampled_shape(shape, case.spacing, plan.spacing[1:])
        if any(size > available for size, available in zip(needed, plan.shape, strict=True)):
            logging.warning("%s is larger than the plan's shape; its edges are cut off for training", case.name)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "plan.json", json.dumps(plan.to_json(), indent=1))
    store.write_cohort(folder / "cohort", examples, provenance)
    return plan, examples


def describe(plan: Plan) -> str:
    """A plan in one line."""
    spacing = " x ".join(f"{value:.3g}" for value in plan.spacing)
    shape = " x ".join(map(str, plan.shape))
    return (
        f"{shape} voxels of {spacing} mm; features {plan.slices.features} and {plan.volumes.features}, "
        f"{plan.slices.batch_size} slices and {plan.volumes.batch_size} volumes a step"
    )
