"""Measures this library, and the same work in PyTorch and nnU-Net beside it where they are installed.

    python -m launch.benchmark [--suites=train,loop,...] [--only="stage one"] [--output=FILE.json]

Each contestant runs in a process of its own; contestants take turns within one run, so that both see the same machine.
A ratio below 1 means that this library is faster (or smaller). `pip install '.[benchmark]'` brings the peers.
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
from cascade_jax.data.files import make_writable_folder, write_text
from launch import command
from launch.benchmarks import workspace as shared
from launch.benchmarks.suites import SUITES, Contest
from launch.benchmarks.worker import Contestant

_LAYERS = "layers"
_PAUSE_SECONDS = 1.0  # the threads of the contestant before spin on for a while
_SUITES = flags.DEFINE_list("suites", [*SUITES, _LAYERS], f"Which to run, of {', '.join([*SUITES, _LAYERS])}.")
_ONLY = flags.DEFINE_string("only", "", "Of the suites' works, only those whose name has this in it.")
_OUTPUT = flags.DEFINE_string("output", None, "A file for all figures, as JSON, written after each work.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "How often each contestant runs, after a warm-up.", lower_bound=1)
_PEERS = flags.DEFINE_bool("peers", True, "Also measure PyTorch and nnU-Net, if they are installed.")
_TRIAL = flags.DEFINE_bool("trial", False, "Tiny networks and images: shows that it runs; the figures mean nothing.")


def _say(line: str, end: str = "\n") -> None:
    print(line, file=sys.stderr, end=end, flush=True)


def _ratios(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Of our time to theirs in each round: the median and the range."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def _run_contest(contest: Contest, workspace: Path, repeats: int, peers: bool) -> dict:
    """All contestants of a contest in turns; what failed is said in `failures`."""
    # Imported here: it is what reads the environment of nnU-Net's folders.
    from launch.benchmarks.ours import step_operations
    from launch.benchmarks.peers import environment

    operations = step_operations(str(workspace), contest.arguments["stage"]) if contest.is_step else None

    targets = {"ours": (contest.ours, {})} | {
        name: rival for name, rival in contest.rivals.items() if peers or not rival[0].startswith("peers.")
    }
    contestants: dict[str, Contestant] = {}
    failures: dict[str, str] = {}
    settings = environment(workspace) | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    seconds: dict[str, list[float]] = {}
    for name, (target, further) in targets.items():
        _say(f"{contest.name}: preparing {name}")
        try:
            arguments = {"workspace": str(workspace)} | contest.arguments | further
            contestants[name] = Contestant(target, arguments, settings, workspace / f"{target}.log")
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
        "targets": contest.targets,
        "memory_target": contest.memory_target,
        "seconds_target": contest.seconds_target,
        "operations": operations,
        "failures": failures,
    }


def _spread(times: list[float]) -> str:
    return f"{statistics.median(times):.3g} ({min(times):.3g} to {max(times):.3g})"


def _verdict(value: float, target: float | None, unit: str = "") -> str:
    if target is None:
        return ""
    return f"{target:g}{unit}: {'met' if value <= target else 'missed'}"


def contest_rows(result: Mapping, with_targets: bool) -> list[str]:
    """The lines of the table of one contest."""
    rows = []
    seconds, peak = result["seconds"], result["peak_bytes"]
    gigabytes = {name: f"{value / 1e9:.2f}" for name, value in peak.items()}
    if "ours" in seconds:
        target = _verdict(statistics.median(seconds["ours"]), result["seconds_target"], " s") if with_targets else ""
        rows.append([result["name"], "ours", _spread(seconds["ours"]), "", target, gigabytes.get("ours", ""), ""])
    for name, ratio in result["ratios"].items():
        target, memory = "", ""
        if with_targets:
            target = _verdict(ratio["median"], result["targets"].get(name))
        if name in peak and "ours" in peak:
            memory = f"{peak['ours'] / peak[name]:.2f}"
            if with_targets and name in result["memory_target"]:
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


def layer_rows(layers: list[Mapping]) -> list[str]:
    """The table of the convolutions: a line for each shape, a cell for each pass with a figure for each lowering."""
    cells: dict[tuple, dict[str, list[str]]] = {}
    for row in layers:
        shape = tuple(" x ".join(map(str, row[name])) for name in ("inputs", "kernel", "strides"))
        figure = f"{row['gflops']:.0f} ({100 * row['share']:.0f} %)"
        cells.setdefault(shape, {}).setdefault(row["what"], []).append(figure)
    passes = list(dict.fromkeys(row["what"] for row in layers))
    lines = [f"| input | kernel | strides | {' | '.join(passes)} |", "|---" * (3 + len(passes)) + "|"]
    for shape, figures in cells.items():
        lines.append("| " + " | ".join([*shape, *(", ".join(figures[name]) for name in passes)]) + " |")
    return lines


def shares(contests: list[Mapping], matrix_rate: float) -> list[str]:
    """What share of a matrix product's rate our training steps reach, in words."""
    lines = []
    for result in contests:
        if result["operations"] and "ours" in result["seconds"]:
            rate = result["operations"] / statistics.median(result["seconds"]["ours"])
            lines.append(f"{result['name']}: {rate / 1e12:.3g} TFLOP/s, {100 * rate / matrix_rate:.0f} %")
    return lines


def losses(contests: list[Mapping]) -> list[str]:
    """Where another contestant is faster than this library, in words."""
    return [
        f"{result['name']}: {ratio['median']:.2f} times the time of {name}"
        for result in contests
        for name, ratio in result["ratios"].items()
        if ratio["median"] > 1 and not name.startswith(("our ", "one fold"))
    ]


def main() -> int:
    suites = _SUITES.value
    if unknown := [name for name in suites if name not in (*SUITES, _LAYERS)]:
        raise CaseError(f"--suites={','.join(suites)}", f"has no suite {unknown[0]!r}")
    works = [work for suite in suites for work in SUITES.get(suite, ()) if _ONLY.value in work.name]
    if not works and _LAYERS not in suites:
        raise CaseError(f"--only={_ONLY.value}", f"is in the name of no work of {', '.join(suites)}")
    if _OUTPUT.value:
        make_writable_folder(Path(_OUTPUT.value).absolute().parent)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    installed = all(importlib.util.find_spec(name) for name in ("torch", "nnunetv2"))
    peers = _PEERS.value and installed
    if _PEERS.value and not installed:
        _say("torch and nnunetv2 are not installed: only this library is measured (pip install '.[benchmark]')")

    # Imported late, after the environment is set.
    from launch.benchmarks import ours
    from launch.benchmarks import peers as theirs

    matrix_rate = ours.matrix_rate(_REPEATS.value)
    about = ours.describe() | (theirs.describe() if peers else {})
    about["matrix product"] = f"{matrix_rate / 1e12:.3g} TFLOP/s"
    contests, layers = [], []

    def save():
        if _OUTPUT.value:
            figures = {"about": about, "contests": contests, "layers": layers}
            write_text(Path(_OUTPUT.value), json.dumps(figures, indent=1))

    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        _say("simulating the cohort")
        shared.make(workspace, _TRIAL.value)
        if peers and works:
            _say("nnU-Net prepares the cohort")
            log = workspace / "make_dataset.log"
            Contestant("peers.make_dataset", {"workspace": folder}, theirs.environment(workspace), log).close()
        for work in works:
            contests.append(_run_contest(work, workspace, _REPEATS.value, peers))
            save()  # a run of hours that is stopped has not been for nothing
        if _LAYERS in suites:
            _say("layers")
            layers = ours.all_layers(folder, _REPEATS.value, _say)
            save()

    print(", ".join(f"{name} {value}" for name, value in about.items()))
    if contests:
        with_targets = about["platform"] == "cpu" and not _TRIAL.value
        print("\n".join(["", *_HEAD, *(row for result in contests for row in contest_rows(result, with_targets))]))
        if reached := shares(contests, matrix_rate):
            print("\n".join(["", f"Of a matrix product's {matrix_rate / 1e12:.3g} TFLOP/s:", *reached]))
        lost = losses(contests)
        print("\n".join(["", "Where this library loses: " + ("; ".join(lost) if lost else "nowhere in these figures")]))
    if layers:
        names = ", ".join(dict.fromkeys(row["lowering"] for row in layers))
        print(f"\nConvolutions in GFLOP/s (share of a matrix product's rate); lowerings: {names}\n")
        print("\n".join(layer_rows(layers)))
    return 1 if any(result["failures"] for result in contests) else 0


if __name__ == "__main__":
    command.run(main, required=())
