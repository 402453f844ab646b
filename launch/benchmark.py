"""Measures this library, and the same work in PyTorch and nnU-Net beside it where they are installed.

    cascade-jax benchmark [--suites=train,loop,...] [--only="stage one"] [--output=FILE.json]
    cascade-jax benchmark --suites=scaling [--devices=N] [--trace=DIR] [--output=FILE.json]

The suite scaling measures this library alone: training over devices, batch sizes and dtypes, and prediction.
`cascade-jax benchmarks.compare_machines A.json B.json --output=DIR` puts several machines side by side. In the other
suites each contestant runs in a process of its own, and they take turns within one run, so that both see the same
machine. A ratio below 1 means that this library is faster (or smaller). `pip install 'cascade_jax[benchmark]'` brings
the peers.
"""

import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from absl import flags

from cascade_jax.data.case import CaseError
from cascade_jax.data.files import write_text
from cascade_jax.data.outputs import recording_outputs, refuse_full_folder, refuse_to_replace
from launch import command
from launch.benchmarks import scaling, scaling_tables
from launch.benchmarks.suites import SUITES, Contest
from launch.benchmarks.worker import Contestant

_LAYERS = "layers"
_LINES_SHOWN = 30
_PAUSE_SECONDS = 1.0  # the threads of the contestant before spin on for a while
_SUITES = flags.DEFINE_list(
    "suites", [*SUITES, _LAYERS], f"Which to run, of {', '.join([*SUITES, _LAYERS])}; or {scaling.SUITE}, alone."
)
flags.DEFINE_alias("suite", "suites")
_ONLY = flags.DEFINE_string("only", "", "Of the suites' works, only those whose name has this in it.")
_OUTPUT = flags.DEFINE_string("output", None, "A file for all figures, as JSON, written after each work.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "How often each contestant runs, after a warm-up.", lower_bound=1)
_PEERS = flags.DEFINE_bool("peers", True, "Also measure PyTorch and nnU-Net, if they are installed.")
_TRIAL = flags.DEFINE_bool("trial", False, "Tiny networks and images: shows that it runs; the figures mean nothing.")
_DEVICES = flags.DEFINE_integer(
    "devices",
    None,
    "scaling: the most devices; by default all. A CPU pretends to have so many, by default a device for each core.",
    lower_bound=1,
)
_DTYPES = flags.DEFINE_list("dtypes", list(scaling.DTYPES), "scaling: what the networks compute in.")
_LARGEST_BATCH = flags.DEFINE_integer(
    "largest_batch",
    None,
    "scaling: samples on one device up to which batches are doubled; by default 64, on a CPU twice the plan's.",
    lower_bound=1,
)
_TRACE = flags.DEFINE_string("trace", None, "scaling: an empty folder for a profiler's trace of each stage's steps.")


def _say(line: str, end: str = "\n") -> None:
    print(line, file=sys.stderr, end=end, flush=True)


def _ratios(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Of our time to theirs in each round: the median and the range."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def aims(contest: Contest, platform: str) -> dict:
    """What a contest aims at on a platform."""
    on_cpu = platform == "cpu"
    return {
        "targets": contest.targets if on_cpu else contest.gpu_targets if platform == "gpu" else {},
        "memory_target": contest.memory_target if on_cpu else {},
        "seconds_target": contest.seconds_target if on_cpu else None,
    }


def _steps(contest: Contest, workspace: str) -> dict:
    """Samples and operations of a unit of the work, if it is a training step."""
    from launch.benchmarks import layers

    if not contest.is_step:
        return {"samples": None, "operations": None}
    stage = contest.arguments["stage"]
    return {"samples": layers.batch_size(workspace, stage), "operations": layers.step_operations(workspace, stage)}


def start(target: str, arguments: dict, settings: dict[str, str], log: Path) -> Contestant:
    """A contestant that is ready; one that ends before is started once more, and what it printed last is shown.

    A data loader of nnU-Net has lost a process (see `benchmarks/nnunet_loader.py`), which cost the contest its rival.

    Raises:
        RuntimeError: it ended before it was ready, twice.
    """
    try:
        return Contestant(target, arguments, settings, log)
    except RuntimeError:
        printed = log.read_text(errors="replace").strip().splitlines()[-_LINES_SHOWN:]
        _say("\n".join([f"{target} ended before it was ready and is started once more; its last lines:", *printed]))
        return Contestant(target, arguments, settings, log)


def _run_contest(contest: Contest, workspace: Path, repeats: int, peers: bool, settings: dict[str, str]) -> dict:
    """All contestants of a contest in turns, `settings` in their environment; what failed is said in `failures`."""
    targets = {"ours": (contest.ours, {})} | {
        name: rival
        for name, rival in contest.rivals.items()
        if peers or not rival[0].startswith(("peers.", "pytorch."))
    }
    contestants: dict[str, Contestant] = {}
    failures: dict[str, str] = {}
    seconds: dict[str, list[float]] = {}
    for name, (target, further) in targets.items():
        _say(f"{contest.name}: preparing {name}")
        try:
            arguments = {"workspace": str(workspace)} | contest.arguments | further
            contestants[name] = start(target, arguments, settings, workspace / f"{target}.log")
            seconds[name] = []
        except RuntimeError as error:
            failures[name] = str(error)
    for turn in range(repeats):
        for name in list(contestants):
            _say(f"{contest.name}: {name}, {turn + 1} of {repeats}", end="")
            time.sleep(_PAUSE_SECONDS)
            try:
                seconds[name].append(contestants[name].run())
                _say(f": {seconds[name][-1]:.3g} s")
            except RuntimeError as error:
                _say(" failed")
                failures[name] = str(error)
                del contestants[name], seconds[name]
    peak = {name: contestant.close() for name, contestant in contestants.items()}
    return {
        "name": contest.name,
        "seconds": seconds,
        "peak_bytes": peak if contest.memory else {},
        "ratios": {
            name: _ratios(seconds["ours"], times)
            for name, times in seconds.items()
            if name != "ours" and "ours" in seconds
        },
        "failures": failures,
    }


def _spread(times: list[float]) -> str:
    return f"{statistics.median(times):.3g} ({min(times):.3g} to {max(times):.3g})"


def _verdict(value: float, target: float | None, unit: str = "") -> str:
    if target is None:
        return ""
    return f"{target:g}{unit}: {'met' if value <= target else 'missed'}"


def contest_rows(result: Mapping) -> list[str]:
    """The lines of the table of one contest."""
    rows = []
    seconds, peak = result["seconds"], result["peak_bytes"]
    gigabytes = {name: f"{value / 1e9:.2f}" for name, value in peak.items()}
    if "ours" in seconds:
        target = _verdict(statistics.median(seconds["ours"]), result["seconds_target"], " s")
        rows.append([result["name"], "ours", _spread(seconds["ours"]), "", target, gigabytes.get("ours", ""), ""])
    for name, ratio in result["ratios"].items():
        target, memory = _verdict(ratio["median"], result["targets"].get(name)), ""
        if name in peak and "ours" in peak:
            memory = f"{peak['ours'] / peak[name]:.2f}"
            if name in result["memory_target"]:
                memory += f" ({_verdict(peak['ours'] / peak[name], result['memory_target'][name])})"
        shown = f"**{ratio['median']:.2f}** ({ratio['lowest']:.2f} to {ratio['highest']:.2f})"
        rows.append(["", name, _spread(seconds[name]), shown, target, gigabytes.get(name, ""), memory])
    for name, reason in result["failures"].items():
        rows.append(["" if rows else result["name"], name, f"failed: {reason}", "", "", "", ""])
    return ["| " + " | ".join(row) + " |" for row in rows]


_HEAD = [
    "| work | whose | seconds: median (range) | our time / theirs | target | peak GB | our memory / theirs |",
    "|---|---|---|---|---|---|---|",
]


def layer_rows(rows: list[Mapping]) -> list[str]:
    """The table of the convolutions: a line for each shape, a cell for each pass with a figure for each convolution."""
    cells: dict[tuple, dict[str, list[str]]] = {}
    for row in rows:
        shape = tuple(" x ".join(map(str, row[name])) for name in ("inputs", "kernel", "strides"))
        figure = f"{row['gflops']:.0f} ({100 * row['share']:.0f} %)"
        cells.setdefault(shape, {}).setdefault(row["what"], []).append(figure)
    passes = list(dict.fromkeys(row["what"] for row in rows))
    lines = [f"| input | kernel | strides | {' | '.join(passes)} |", "|---" * (3 + len(passes)) + "|"]
    for shape, figures in cells.items():
        lines.append("| " + " | ".join([*shape, *(", ".join(figures[name]) for name in passes)]) + " |")
    return lines


def rates(contests: list[Mapping], matrix_rate: float) -> list[str]:
    """Samples a second of every contestant's training steps, and what share of a matrix product's rate ours reach."""
    lines = []
    for result in contests:
        if not result["samples"] or "ours" not in result["seconds"]:
            continue
        seconds = {name: statistics.median(times) for name, times in result["seconds"].items()}
        samples = ", ".join(f"{name} {result['samples'] / one:.3g}" for name, one in seconds.items())
        rate = result["operations"] / seconds["ours"]
        share = f"ours {rate / 1e12:.3g} TFLOP/s, {100 * rate / matrix_rate:.0f} % of a matrix product's"
        lines.append(f"{result['name']}: {samples}; {share}")
    return lines


def losses(contests: list[Mapping]) -> list[str]:
    """Where another contestant is faster than this library, in words."""
    return [
        f"{result['name']}: {ratio['median']:.2f} times the time of {name}"
        for result in contests
        for name, ratio in result["ratios"].items()
        if ratio["median"] > 1 and not name.startswith(("our ", "one fold"))
    ]


def _output() -> Path:
    return Path(_OUTPUT.value).absolute()


def _save(figures: dict) -> None:
    if _OUTPUT.value:
        with recording_outputs(_output().parent, [_output().name]):
            write_text(_output(), json.dumps(figures, indent=1))


def _scale() -> int:
    """The suite that is run alone, since other suites take the accelerator for this process."""
    trace = Path(_TRACE.value).absolute() if _TRACE.value else None
    if trace:
        refuse_full_folder(trace)
    settings = scaling.Settings(
        devices=_DEVICES.value,
        dtypes=tuple(_DTYPES.value),
        largest_batch=_LARGEST_BATCH.value,
        repeats=_REPEATS.value,
        only=_ONLY.value,
        trial=_TRIAL.value,
        trace=trace,
    )
    figures = scaling.run(settings, _save)
    print(scaling_tables.as_text(figures))
    measured = [*figures["points"], *figures["predictions"]]
    return 1 if any(point["status"] == scaling.FAILED for point in measured) else 0


def main() -> int:
    suites = _SUITES.value
    if unknown := [name for name in suites if name not in (*SUITES, _LAYERS, scaling.SUITE)]:
        raise CaseError(f"--suites={','.join(suites)}", f"has no suite {unknown[0]!r}")
    if scaling.SUITE in suites:
        if len(suites) > 1:
            raise CaseError(f"--suites={','.join(suites)}", f"has others beside {scaling.SUITE}, which runs alone")
        if _OUTPUT.value:
            refuse_to_replace(_output().parent, [_output().name])
        return _scale()
    works = [work for suite in suites for work in SUITES.get(suite, ()) if _ONLY.value in work.name]
    if not works and _LAYERS not in suites:
        raise CaseError(f"--only={_ONLY.value}", f"is in the name of no work of {', '.join(suites)}")
    if _OUTPUT.value:
        refuse_to_replace(_output().parent, [_output().name])
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    installed = all(importlib.util.find_spec(name) for name in ("torch", "nnunetv2"))
    peers = _PEERS.value and installed
    if _PEERS.value and not installed:
        _say("without torch and nnunetv2 only this library is measured: pip install 'cascade_jax[benchmark]'")

    # Imported late, after the environment is set.
    from launch.benchmarks import layers, ours
    from launch.benchmarks import peers as theirs
    from launch.benchmarks import workspace as shared

    matrix_rate = layers.matrix_rate(_REPEATS.value)
    about = ours.describe() | (theirs.describe() if peers else {})
    about["matrix product"] = f"{matrix_rate / 1e12:.3g} TFLOP/s"
    contests, convolutions = [], []

    def save():
        _save({"about": about, "contests": contests, "layers": convolutions})

    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        settings = theirs.environment(workspace)
        if about["platform"] != "cpu":
            # Compilers of accelerators try kernels out for minutes: what one contestant has compiled serves the next.
            settings["JAX_COMPILATION_CACHE_DIR"] = str(workspace / "programs")
        _say("simulating the cohort")
        shared.make(workspace, _TRIAL.value)
        if peers and works:
            _say("nnU-Net prepares the cohort")
            log = workspace / "make_dataset.log"
            Contestant("peers.make_dataset", {"workspace": folder}, settings, log).close()
        for work in works:
            result = _run_contest(work, workspace, _REPEATS.value, peers, settings)
            contests.append(result | _steps(work, folder) | aims(work, "" if _TRIAL.value else about["platform"]))
            save()  # a run of hours that is stopped has not been for nothing
        if _LAYERS in suites:
            _say("layers")
            convolutions = layers.all_layers(folder, _REPEATS.value, _say)
            save()

    print(", ".join(f"{name} {value}" for name, value in about.items()))
    if contests:
        print("\n".join(["", *_HEAD, *(row for result in contests for row in contest_rows(result))]))
        if reached := rates(contests, matrix_rate):
            print("\n".join(["", "Samples a second:", *reached]))
        lost = losses(contests)
        print("\n".join(["", "Where this library loses: " + ("; ".join(lost) if lost else "nowhere in these figures")]))
    if convolutions:
        names = ", ".join(dict.fromkeys(row["convolution"] for row in convolutions))
        print(f"\nConvolutions in GFLOP/s (share of a matrix product's rate); by: {names}\n")
        print("\n".join(layer_rows(convolutions)))
    return 1 if any(result["failures"] for result in contests) else 0


if __name__ == "__main__":
    command.run(main, required=())
