"""The suite `scaling`: one machine's training steps over devices, batch sizes and dtypes, and its predictions.

Every measurement runs in a process of its own (`scaling_worker.py`); this one asks no accelerator for anything, since
a TPU belongs to the first process that does.
"""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from cascade_jax.errors import ConfigError
from launch.console import command

SUITE = "scaling"
STAGES = {0: "stage one", 1: "stage two"}
DTYPES = ("float32", "bfloat16")
SERIES = ("weak", "strong", "batch")  # what a measurement is part of
MEASURED, OUT_OF_MEMORY, FAILED = "measured", "out of memory", "failed"
_MOST_PRETENDED_DEVICES = 8
_LARGEST_BATCH = 64  # on an accelerator; on a CPU twice the plan's
_ROUND_SECONDS, _TRIAL_ROUND_SECONDS = 1.0, 0.02
_TRIAL_MATRIX = 128
# A CPU's devices share its cores: the first to be done waits for the last, which XLA otherwise ends after 40 s.
_PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds=36000"

Run = Callable[[str, dict, int], dict]
Point = dict  # of the file: what is measured, and the figures


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        devices: the most; None takes all. A CPU pretends to have as many, by default as many as it has cores, up to 8.
        dtypes: of the networks. All is measured in the first, in the others only what a machine does by default.
        largest_batch: samples on one device up to which batches are doubled; None takes what suits the platform.
        repeats: rounds of each measurement.
        only: of the measurements, those whose name has this in it.
        trial: tiny networks and images.
        trace: the folder for a profiler's traces, or None.
    """

    devices: int | None
    dtypes: tuple[str, ...]
    largest_batch: int | None
    repeats: int
    only: str
    trial: bool
    trace: Path | None


def device_counts(most: int) -> list[int]:
    """1, 2, 4 and so on, and the most."""
    return [2**power for power in range(most.bit_length()) if 2**power < most] + [most]


def name_of(point: Mapping) -> str:
    """What a measurement is called, as in `--only`."""
    if "stage" not in point:
        return f"prediction, {point['dtype']}, on {_devices(point['devices'])}"
    batch = f"a batch of {point['batch_size']} on {_devices(point['devices'])}"
    return f"training step, {STAGES[point['stage'] - 1]}, {point['dtype']}, {batch}"


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def plan_points(
    batch_sizes: Sequence[int], counts: Sequence[int], dtypes: Sequence[str], largest_batch: int | None
) -> list[Point]:
    """What is to be measured, the most telling first; what belongs to two series is measured once.

    Args:
        batch_sizes: of both stages, on one device.
        counts: of devices, from 1 up.
        dtypes: of the networks; only weak scaling is measured in any but the first.
        largest_batch: up to which batches on one device are doubled; None doubles the plan's once.
    """
    points: dict[tuple, Point] = {}

    def add(series: str, stage: int, dtype: str, devices: int, batch_size: int) -> None:
        asked = {"stage": stage + 1, "dtype": dtype, "devices": devices, "batch_size": batch_size}
        points.setdefault(tuple(asked.values()), asked | {"series": []})["series"].append(series)

    for dtype in dtypes:
        for stage, one in enumerate(batch_sizes):
            for count in counts:
                add("weak", stage, dtype, count, one * count)
    for stage, one in enumerate(batch_sizes):
        together = math.lcm(*counts)  # of which every count has an equal share
        together *= -(-one // together)
        for count in counts if len(counts) > 1 else ():
            add("strong", stage, dtypes[0], count, together)
        batch_size = 1
        while batch_size <= (largest_batch or 2 * one):
            add("batch", stage, dtypes[0], 1, batch_size)
            batch_size *= 2
    return list(points.values())


def measure(points: Sequence[Point], run: Callable[[Point], dict]) -> Iterator[Point]:
    """Measures one after the other; a batch beyond one that did not fit is left out of the doubling.

    Args:
        points: what to measure.
        run: measures one.

    Yields:
        Each with its figures.
    """
    full: set[tuple] = set()
    for point in points:
        doubled = (point["stage"], point["dtype"])
        if point["series"] == ["batch"] and doubled in full:
            continue
        measured = point | run(point)
        if "batch" in point["series"] and measured["status"] == OUT_OF_MEMORY:
            full.add(doubled)
        yield measured


def with_efficiency(points: Sequence[Point]) -> list[Point]:
    """Each with how many times one device's samples a second it has in its series, and that over its devices.

    Adds `speed_up` and `efficiency`, {"weak" or "strong": value}, for series that have been measured on one device.
    """
    alone = {
        (series, point["stage"], point["dtype"]): point["samples_a_second"]
        for point in points
        for series in point["series"]
        if point["devices"] == 1 and point["status"] == MEASURED
    }
    result = []
    for point in points:
        speed_up = {}
        for series in point["series"]:
            one = alone.get((series, point["stage"], point["dtype"]))
            if series != "batch" and one and point["status"] == MEASURED:
                speed_up[series] = point["samples_a_second"] / one
        efficiency = {series: times / point["devices"] for series, times in speed_up.items()}
        result.append(point | {"speed_up": speed_up, "efficiency": efficiency})
    return result


def run_worker(function: str, arguments: dict, pretended: int, log: Path) -> dict:
    """What a function of `scaling_worker.py` returns, in a process of its own.

    Args:
        function: its name.
        arguments: its own.
        pretended: devices that a CPU is to have; 0 leaves JAX what it finds.
        log: a file for what it prints.

    Returns:
        Its result; or `status` and `reason`, where it ended without one.
    """
    environment = dict(os.environ)
    if pretended:
        forced = f"--xla_force_host_platform_device_count={pretended} {_PATIENCE}"
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {forced}".strip()
    with log.open("w") as printed:
        process = subprocess.Popen(
            [*command("benchmarks.scaling_worker"), function, json.dumps(arguments)],
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
            env=environment,
        )
        try:
            answer, _ = process.communicate()
        finally:
            process.kill()
            process.wait()
    if process.returncode == 0:
        return json.loads(answer)
    if process.returncode == -signal.SIGKILL:
        return {"status": OUT_OF_MEMORY, "reason": "the system ended it, as it does where memory runs out"}
    lines = log.read_text(errors="replace").strip().splitlines()
    return {"status": FAILED, "reason": lines[-1] if lines else f"ended with status {process.returncode}"}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run(settings: Settings, save: Callable[[dict], None]) -> dict:
    """Measures this machine.

    Args:
        settings: what.
        save: is given all figures after each measurement.

    Returns:
        What is written as JSON; see docs/performance.md, "Scaling".

    Raises:
        ConfigError: a setting cannot be; the machine cannot be described.
    """
    from launch.benchmarks import workspace as shared

    if unknown := [dtype for dtype in settings.dtypes if dtype not in DTYPES]:
        raise ConfigError(f"--dtypes: {unknown[0]!r} is none of {', '.join(DTYPES)}")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        shared.write_plan(workspace, settings.trial)
        plan = shared.plan(workspace)
        log = workspace / "worker.log"
        about = run_worker("describe", {}, 0, log)
        if about.get("status") == FAILED:
            raise ConfigError(f"JAX does not start here: {about['reason']}")
        on_cpu, found = about["platform"] == "cpu", about["device_count"]
        most = settings.devices or (max(found, min(about["cores"], _MOST_PRETENDED_DEVICES)) if on_cpu else found)
        if most > found and not on_cpu:
            raise ConfigError(f"--devices={most}: this machine has {found}")
        default = about["default_dtype"]
        dtypes = sorted(dict.fromkeys(settings.dtypes), key=lambda dtype: dtype != default)
        batch_sizes = (plan.slices.batch_size, plan.volumes.batch_size)
        largest = settings.largest_batch or (None if on_cpu else _LARGEST_BATCH)
        points = plan_points(batch_sizes, device_counts(most), dtypes, largest)
        points = [point for point in points if settings.only in name_of(point)]
        counts = device_counts(most) if on_cpu else [most]  # a process takes all devices that there are for its folds
        predictions = [{"dtype": dtype, "devices": count} for dtype in dtypes for count in counts]
        predictions = [point for point in predictions if settings.only in name_of(point)]
        if not points and not predictions:
            raise ConfigError(f"--only={settings.only} is in the name of no measurement")

        about |= {"pretended_devices": on_cpu and most > 1, "trial": settings.trial, "plan": plan.to_json()}
        about["asked"] = dataclasses.asdict(settings) | {"trace": settings.trace and str(settings.trace)}
        figures: dict = {"suite": SUITE, "about": about, "points": [], "predictions": []}
        timing = {
            "repeats": settings.repeats,
            "round_seconds": _TRIAL_ROUND_SECONDS if settings.trial else _ROUND_SECONDS,
        }
        traced = set()

        def train(point: Point) -> dict:
            say(f"{name_of(point)}: {len(figures['points']) + 1} of up to {len(points)}")
            arguments = {name: point[name] for name in ("dtype", "devices", "batch_size")}
            arguments |= {"workspace": folder, "stage": point["stage"] - 1} | timing
            arguments["matrix_size"] = _TRIAL_MATRIX if settings.trial else None
            if settings.trace and "weak" in point["series"] and point["devices"] == most:
                if point["stage"] not in traced:
                    arguments["trace"] = str(settings.trace / f"stage{point['stage']}")
                traced.add(point["stage"])
            return run_worker("training", arguments, point["devices"] if on_cpu else 0, log)

        for point in measure(points, train):
            say(f"  {_in_a_line(point, 'samples_a_second', 'samples')}")
            figures["points"] = with_efficiency([*figures["points"], point])
            save(figures)
        for point in predictions:
            say(name_of(point))
            arguments = {"workspace": folder, "dtype": point["dtype"]} | timing
            measured = point | run_worker("prediction", arguments, point["devices"] if on_cpu else 0, log)
            say(f"  {_in_a_line(measured, 'cases_a_second', 'cases')}")
            figures["predictions"].append(measured)
            save(figures)
    return figures


def _in_a_line(point: Mapping, rate: str, what: str) -> str:
    if point["status"] == MEASURED:
        return f"{point[rate]:.3g} {what} a second"
    return f"{point['status']}: {point['reason']}"
