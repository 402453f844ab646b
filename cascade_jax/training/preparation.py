"""From a cohort in the challenge's layout to the plan and the prepared examples."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cascade_jax.data import folders, prepared
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import file_checksum, read_json, write_text
from cascade_jax.data.labels import EMIDEC, LabelTable
from cascade_jax.data.prepared import PreparedCohort
from cascade_jax.data.preprocess import bounding_box, resampled_shape
from cascade_jax.plan import Plan, make_plan
from cascade_jax.progress import Progress
from cascade_jax.training import case_workers


class PlanError(ValueError):
    """An override of the plan that does not fit the cohort or another override."""


def plan_cohort(
    shapes: Sequence[Sequence[int]], spacings: Sequence[Sequence[float]], overrides: Mapping, labels: LabelTable
) -> tuple[Plan, tuple[int, int, int]]:
    """The plan of a cohort, and the shape of its examples, which holds each case whole and the plan's samples.

    Args:
        shapes: of each case's field of view, (depth, height, width).
        spacings: mm of each case along the same.
        overrides: of the plan, as `make_plan` takes them.
        labels: which labels there are.

    Raises:
        PlanError: an override does not fit.
    """
    try:
        plan = make_plan(shapes, spacings, overrides, labels)
    except ValueError as error:
        raise PlanError(str(error)) from error
    whole = [resampled_shape(*one, plan.spacing[1:]) for one in zip(shapes, spacings, strict=True)]
    return plan, tuple(np.max([plan.shape, *whole], axis=0).tolist())


def field_of_view(image: np.ndarray) -> list[int]:
    """The (depth, height, width) of an image without what is empty at its borders."""
    return [stop - start for start, stop in bounding_box(image)]


def planned_shape(folder: Path, overrides: Mapping, labels: LabelTable) -> tuple[Plan, tuple[int, ...]] | None:
    """The plan, and (case, depth, height, width), of a cohort that `prepare` has prepared in `folder` by the same
    settings; None if there is none.

    Raises:
        CaseError: it cannot be read.
    """
    provenance = prepared.read_provenance(folder / "cohort")
    wanted = json.loads(json.dumps({"overrides": overrides, "labels": labels.to_json()}))
    if provenance is None or any(provenance.get(key) != value for key, value in wanted.items()):
        return None
    examples = PreparedCohort(folder / "cohort")
    return _read_plan(folder / "plan.json"), (len(examples), *examples.shape)


def file_checksums(files: Sequence[folders.CaseFiles]) -> dict[str, str]:
    """The SHA-256 of what stands in each of some cases' files, by case and file name.

    Times and folders do not count: a copied cohort is the same one.

    Raises:
        CaseError: a file cannot be read.
    """
    checksums = {}
    for file in files:
        for path in (file.image, file.contour):
            if path is not None:
                checksums[f"{file.name}/{path.parent.name}/{path.name}"] = file_checksum(path)
    return checksums


def prepare(
    root: Path,
    folder: Path,
    overrides: Mapping,
    minimum_cases: int,
    progress: Progress,
    labels: LabelTable = EMIDEC,
    location: str = "",
    processes: int = 1,
) -> tuple[Plan, PreparedCohort]:
    """Reads and checks every case, plans, preprocesses, and keeps all that for the next time.

    In the plane the plan's shape is that of the median case, as nnU-Net's is: training shows windows of it. The
    examples hold every case whole. A preparation that was stopped goes on with the cases that are not there yet.

    Args:
        root: the cohort, every case with its labels.
        folder: for `plan.json` and the prepared examples.
        overrides: of the plan, as `make_plan` takes them.
        minimum_cases: fewer cases than this are refused.
        progress: wraps the loop over cases with a bar.
        labels: which labels there are.
        location: where the prepared examples go instead, a folder or URL (`store.open_folder`) that several runs may
            have in common.
        processes: how many prepare cases at once.

    Returns:
        The plan, and one example for each case, sorted by name, all of one shape, which holds each and the plan's.

    Raises:
        CaseError: a file or the cohort is unusable, or the location holds another cohort.
        PlanError: an override does not fit.
    """
    files = folders.find_cases(root, labelled=True)
    if len(files) < minimum_cases:
        raise CaseError(root, f"has {len(files)} cases, fewer than the {minimum_cases} folds of the cross-validation")
    provenance = {
        "overrides": json.loads(json.dumps(overrides)),
        "labels": labels.to_json(),
        "files": file_checksums(files),
    }
    cohort = location or str(folder / "cohort")
    if not prepared.is_complete(cohort, provenance):
        # Nothing but files is read before there is a plan: a fault in the last one must not be found after an hour.
        if (begun := prepared.read_begun(cohort, provenance)) is None:
            plan, shape = _survey(root, files, overrides, progress, labels, processes)
            names = [file.name for file in files]
            prepared.begin(cohort, names, shape, plan.to_json(), provenance, replace=not location)
        else:
            plan = Plan.from_json(begun["plan"])
        settings = {"labels": labels.to_json(), "location": cohort, "spacing": plan.spacing[1:]}
        description = f"preparing {len(files)} cases: {describe_plan(plan)}"
        written = case_workers.each_case("write", settings, files, processes)
        for _ in zip(progress(files, description), written, strict=True):
            pass
        prepared.Writer(cohort).finish()
    examples = PreparedCohort(cohort)
    plan, path = Plan.from_json(examples.plan), folder / "plan.json"
    if not path.exists() or _read_plan(path) != plan:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(plan.to_json(), indent=1))
    return plan, examples


def read_prepared(folder: Path, location: str = "") -> tuple[Plan, PreparedCohort]:
    """What `prepare` has kept; raises CaseError where that is missing or damaged."""
    return _read_plan(folder / "plan.json"), PreparedCohort(location or str(folder / "cohort"))


def _survey(
    root: Path,
    files: Sequence[folders.CaseFiles],
    overrides: Mapping,
    progress: Progress,
    labels: LabelTable,
    processes: int,
) -> tuple[Plan, tuple[int, int, int]]:
    """The plan of a cohort, and the shape that holds every case; nothing is written."""
    found = case_workers.each_case("survey", {"labels": labels.to_json()}, files, processes)
    cases = [case for _, case in zip(progress(files, f"reading {len(files)} cases of {root}"), found, strict=True)]
    shapes, spacings = ([tuple(case[name]) for case in cases] for name in ("shape", "spacing"))
    return plan_cohort(shapes, spacings, overrides, labels)


def _read_plan(path: Path) -> Plan:
    values = read_json(path)
    try:
        return Plan.from_json(values)
    except (KeyError, TypeError, ValueError):
        raise CaseError(path, "is damaged: it holds no plan; remove its folder to make it again") from None


def describe_plan(plan: Plan) -> str:
    """A plan in one line."""
    spacing = " x ".join(f"{value:.3g}" for value in plan.spacing)
    shape = " x ".join(map(str, plan.shape))
    window = "" if plan.window is None else f", stage two's window {' x '.join(map(str, plan.window))}"
    return (
        f"{shape} voxels of {spacing} mm{window}; features {plan.slices.features} and {plan.volumes.features}, "
        f"{plan.slices.batch_size} slices and {plan.volumes.batch_size} volumes a step"
    )
