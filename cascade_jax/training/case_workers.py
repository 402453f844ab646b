"""Work on each case of a cohort, in this process or in several, of which each takes every so-many-th case.

They are started anew and know neither JAX nor this process's main module, and end when this one does:

    python -m cascade_jax.training.case_workers < job.json
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import LabelTable
from cascade_jax.data.prepared import Writer
from cascade_jax.data.preprocess import field_of_view, preprocess

# What is done with a case: (its position, its files) -> JSON-able.
Task = Callable[[int, folders.CaseFiles], dict]


def survey(settings: Mapping) -> Task:
    """Reads and checks a case: the shape of its field of view, and its spacing in mm, as (depth, height, width).

    Args:
        settings: `labels`, the table of labels as JSON.
    """
    labels = LabelTable.from_json(settings["labels"])

    def of_case(number, files):
        case = emidec.read_case(files, labels)
        return {"shape": field_of_view(case), "spacing": [float(value) for value in case.spacing]}

    return of_case


def write(settings: Mapping) -> Task:
    """Prepares a case and writes it into a cohort that was begun, unless it is there.

    Args:
        settings: `labels`; `location` of the cohort; `spacing`, mm along (height, width).
    """
    labels, writer = LabelTable.from_json(settings["labels"]), Writer(settings["location"])

    def of_case(number, files):
        if not writer.has(number):
            example = preprocess(emidec.read_case(files, labels), tuple(settings["spacing"]), writer.shape)
            writer.write(number, example)
        return {}

    return of_case


_TASKS = {"survey": survey, "write": write}


def each_case(task: str, settings: Mapping, files: Sequence[folders.CaseFiles], processes: int) -> Iterator[dict]:
    """Does a task ("survey" or "write") with every case, in turn.

    Args:
        task: its name.
        settings: JSON-able; of the task.
        files: of the cases.
        processes: how many share the cases; 1 is this one.

    Yields:
        What the task returns of each case, in their order.

    Raises:
        CaseError: a case or the place that is written to is unusable, or a process ended.
    """
    if min(processes, len(files)) > 1:
        yield from _in_processes(task, settings, files, min(processes, len(files)))
        return
    do = _TASKS[task](settings)
    for number, one in enumerate(files):
        yield do(number, one)


def _in_processes(task: str, settings: Mapping, files: Sequence[folders.CaseFiles], processes: int) -> Iterator[dict]:
    numbered = [(number, *map(_text, dataclasses.astuple(one))) for number, one in enumerate(files)]
    started = []
    try:
        for first in range(processes):
            started.append(_start({"task": task, "settings": settings, "files": numbered[first::processes]}))
        for number, one in enumerate(files):
            worker = started[number % processes]
            line = worker.stdout.readline()
            if not line.endswith("\n"):
                raise CaseError(one.name, f"the process that prepared it ended with status {worker.wait()}")
            result = json.loads(line)
            if "fault" in result:
                raise CaseError(*result["fault"])
            yield result
    finally:
        for worker in started:
            worker.kill()
            worker.communicate()


def _text(value: str | Path | None) -> str | None:
    return None if value is None else os.fspath(value)


def _start(job: Mapping) -> subprocess.Popen:
    # From a file: into a pipe, a long list of cases would go only once the process reads it.
    with tempfile.TemporaryFile("w+") as file:
        json.dump(job, file)
        file.flush()
        file.seek(0)
        return subprocess.Popen(
            [sys.executable, "-m", "cascade_jax.training.case_workers"],
            stdin=file,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            start_new_session=True,  # Ctrl-C is for this process, which ends its workers
        )


def _work() -> None:
    """Does what standard input asks for, with a line of JSON on standard output for each case."""
    job = json.load(sys.stdin)
    try:
        do = _TASKS[job["task"]](job["settings"])
        for number, name, image, contour in job["files"]:
            files = folders.CaseFiles(name, Path(image), contour and Path(contour))
            print(json.dumps(do(number, files)), flush=True)
    except CaseError as error:
        print(json.dumps({"fault": [error.path, error.fault]}), flush=True)


if __name__ == "__main__":
    try:
        _work()
    except BrokenPipeError:  # who started it is gone
        os._exit(1)
