"""Scans in any form to labels beside them, and a line that says what was found."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cascade_jax.cascade import Cascade
from cascade_jax.case_warnings import codes, warnings_of_series
from cascade_jax.commands.answer import answer, in_words
from cascade_jax.commands.pipeline import overlapped
from cascade_jax.commands.predict import TABLES, files_of, write_prediction, write_tables
from cascade_jax.confidence import with_warnings
from cascade_jax.data import emidec
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.folders import LABELS
from cascade_jax.data.formats import stem_of
from cascade_jax.data.labels import EMIDEC, LabelTable
from cascade_jax.data.outputs import recording_outputs, refuse_to_replace
from cascade_jax.data.scans import Scan, find_scans, only_one_study
from cascade_jax.progress import Progress
from cascade_jax.segmentation import Segmentation

_NIFTI = ".nii.gz"
_Read = tuple[Case, Any, list[str]]  # what `Scan.read` gives


@dataclasses.dataclass(frozen=True)
class Job:
    """A scan and where its results go: a file of labels, or the folder for all that `predict` gives."""

    scan: Scan
    target: Path

    def outputs(self, everything: bool) -> tuple[Path, list[str]]:
        """The folder that files are written to, and their paths in it."""
        if not everything:
            return self.target.parent, [self.target.name]
        names = [*files_of(self.scan.name, images=self.scan.is_dicom), *TABLES]
        if self.scan.is_dicom:
            names += [f"{self.scan.name}/{self.scan.name}{ending}" for ending in (".seg.dcm", ".sr.dcm")]
        return self.target, names


def plan(inputs: Sequence[str], output: Path | None, everything: bool) -> tuple[list[Job], list[str], list[str]]:
    """What is to be done; nothing is written.

    Args:
        inputs: files and folders.
        output: a file of labels that ends in .nii.gz, for one scan; or the folder for all. None puts each scan's
            results beside it, named like it and `_seg`.
        everything: whether what `predict` gives is to be made instead of labels alone.

    Returns:
        The jobs; a line for each file that is no scan; and one for each input or scan that cannot be done.
    """
    scans, skipped, failed = [], [], []
    for name in inputs:
        try:
            found, others = find_scans(name, output)
        except CaseError as error:
            failed.append(str(error))
            continue
        scans += [scan for scan in only_one_study(found, Path(name)) if scan not in scans]
        skipped += [line for line in others if line not in skipped]
    if not scans and not failed:
        failed, skipped = skipped, []
    as_file = output is not None and stem_of(output) is not None
    if as_file and not output.name.lower().endswith(_NIFTI):
        raise CaseError(output, f"is no file that labels are written to: its name must end in {_NIFTI}")
    if as_file and (everything or len(scans) > 1):
        what = "all results" if everything else f"{len(scans)} scans"
        raise CaseError(output, f"is one file, and {what} need a folder")
    # By realpath, which lets links that lead to each other be; `refuse_to_replace` names them.
    jobs, taken = [], {os.path.realpath(path): path for scan in scans for path in scan.files}
    for scan in scans:
        job = Job(scan, output if as_file else _target(scan, output, everything))
        folder, names = job.outputs(everything)
        claimed = folder / (scan.name if everything else names[0])
        if other := taken.get(os.path.realpath(claimed)):
            failed.append(f"{scan.source}: its results, {claimed}, would replace {other} or its results")
            continue
        taken[os.path.realpath(claimed)] = scan.source
        try:
            refuse_to_replace(folder, names)
        except CaseError as error:
            failed.append(str(error))
        else:
            jobs.append(job)
    return jobs, skipped, failed


def _target(scan: Scan, output: Path | None, everything: bool) -> Path:
    if everything:
        return output or scan.place.parent / f"{scan.name}{LABELS}"
    return (output or scan.place.parent) / f"{scan.name}{LABELS}{_NIFTI}"


def segment_scans(
    cascade: Cascade, jobs: Sequence[Job], everything: bool, progress: Progress, *, strict: bool = False
) -> Iterator[tuple[str, list[str]]]:
    """Does the jobs, on several devices some at a time; a bad scan does not keep the others from it.

    Args:
        cascade: the trained cascade.
        jobs: as `plan` made them.
        everything: as for `plan`.
        progress: wraps the loop with a bar where there are several.
        strict: whether a scan with a warning counts as one that could not be done. Its results are there all the same.

    Yields:
        For each job a line of what was found, empty if it failed, and lines of what could not be done.
    """
    table = cascade.plan.labels

    def read(job: Job) -> _Read:
        case, series, notes = job.scan.read(table)
        if everything and series and table != EMIDEC:
            raise CaseError(job.scan.source, "the model has labels without DICOM codes; leave --all away")
        return case, series, notes

    def compute(cascade: Cascade, read: _Read) -> tuple[_Read, Segmentation]:
        case, _, notes = read
        result = cascade.segment_case(case, details=everything)
        return read, result._replace(confidence=with_warnings(result.confidence, warnings_of_series(notes)))

    def write(job: Job, done: tuple[_Read, Segmentation]) -> tuple[str, list[str]]:
        return _write(job, *done, table, everything, strict)

    shown = progress(jobs, f"segmenting {len(jobs)} scans") if len(jobs) > 1 else jobs
    for _, said, error in overlapped(shown, read, compute, write, cascade.for_cases(len(jobs))):
        yield said if error is None else ("", [str(error)])


def _write(
    job: Job, read: _Read, result: Segmentation, table: LabelTable, everything: bool, strict: bool
) -> tuple[str, list[str]]:
    scan, (case, series, _) = job.scan, read
    folder, names = job.outputs(everything)
    failed: list[str] = []
    with recording_outputs(folder, names):
        if not everything:
            emidec.write_labels_as(job.target, result.labels, case)
        elif series:
            from cascade_jax.commands.dicom import write_series

            failed, _ = write_series(folder, series, case, result)
        else:
            write_prediction(folder, case, result, table, figures=True, images=False)
    if everything:
        write_tables(folder, {case.name: result.confidence}, table)
    said = in_words(answer(case, result, table))
    where = job.target / scan.name if everything else job.target
    if strict and result.confidence.warnings:
        failed.append(f"{scan.name}: {codes(result.confidence.warnings)} (--strict)")
    return f"{scan.name}: {said}; {'files in' if everything else 'labels in'} {where}", failed
