"""One machine is measured over devices and batches, and several machines' files make one table and one plot."""

import copy
import json
import subprocess
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from cascade_jax.errors import CaseError, ConfigError
from launch.benchmarks import machine, machines, scaling, scaling_tables, scaling_worker, workspace

ABOUT = {
    "versions": {"cascade_jax": "0.1.0", "jax": "0.10.2", "jaxlib": "0.10.2"},
    "device": "NVIDIA H100",
    "device_count": 8,
    "platform": "gpu",
    "memory_bytes_of_a_device": 80e9,
    "memory_bytes_of_the_host": 1e12,
    "processor": "Xeon",
    "cores": 16,
    "driver": "driver 550",
    "commit": "abc",
    "pretended_devices": False,
    "trial": False,
}


def point(devices=1, batch_size=2, samples=10.0, series=("weak",), stage=2, dtype="bfloat16", **others):
    """A measurement as a file has it."""
    seconds = batch_size / samples
    return {
        "stage": stage,
        "dtype": dtype,
        "devices": devices,
        "batch_size": batch_size,
        "series": list(series),
        "status": "measured",
        "reason": None,
        "compile_seconds": 30.0,
        "memory": {"program_bytes_of_a_device": 1e9, "peak_bytes_of_a_device": 2e9},
        "step_seconds": {"median": seconds, "lowest": 0.8 * seconds, "highest": 1.25 * seconds},
        "samples_a_second": samples,
        "flops_a_second": 2e14,
        "utilisation": 0.25,
    } | others


def figures(points, about=ABOUT):
    """A file of the suite."""
    predictions = [{"dtype": "bfloat16", "devices": 8, "status": "measured", "cases_a_second": 7.0}]
    predictions[0]["case_seconds"] = {"median": 0.14, "lowest": 0.13, "highest": 0.2}
    return {
        "suite": "scaling",
        "about": about,
        "points": scaling.with_efficiency(points),
        "predictions": predictions,
    }


@pytest.mark.parametrize(("most", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_device_counts_double_up_to_all(most, counts):
    assert scaling.device_counts(most) == counts


def test_weak_scaling_keeps_the_batch_of_a_device_and_strong_the_whole_batch():
    points = scaling.plan_points((4, 2), (1, 2, 4, 6), ("float32", "bfloat16"), 8)
    for stage, one in ((1, 4), (2, 2)):
        own = [other for other in points if other["stage"] == stage]
        weak = {(p["dtype"], p["devices"], p["batch_size"]) for p in own if "weak" in p["series"]}
        assert weak == {(dtype, n, one * n) for dtype in scaling.DTYPES for n in (1, 2, 4, 6)}
        strong = {(p["dtype"], p["devices"], p["batch_size"]) for p in own if "strong" in p["series"]}
        assert strong == {("float32", n, 12) for n in (1, 2, 4, 6)}
        assert [p["batch_size"] for p in own if p["series"] == ["batch"]] == [b for b in (1, 2, 4, 8) if b != one]
    asked = [(p["stage"], p["dtype"], p["devices"], p["batch_size"]) for p in points]
    assert len(asked) == len(set(asked)), "what belongs to two series is measured once"


def test_one_device_has_no_strong_scaling_and_the_plans_batch_is_doubled_once_by_default():
    points = scaling.plan_points((4, 2), (1,), ("float32",), None)
    assert {name for p in points for name in p["series"]} == {"weak", "batch"}
    assert [p["batch_size"] for p in points if p["stage"] == 1] == [4, 1, 2, 8]
    assert [p["batch_size"] for p in points if p["stage"] == 2] == [2, 1, 4]


def test_batches_are_doubled_until_one_does_not_fit_and_that_is_recorded():
    points = scaling.plan_points((4, 2), (1, 2), ("float32",), 64)
    full = {"status": "out of memory", "reason": "RESOURCE_EXHAUSTED"}
    measured = list(
        scaling.measure(points, lambda p: full if p["batch_size"] >= 8 * p["devices"] else {"status": "measured"})
    )
    for stage in (1, 2):
        doubled = [p for p in measured if p["stage"] == stage and "batch" in p["series"]]
        assert sorted((p["batch_size"], p["status"]) for p in doubled) == [
            (1, "measured"),
            (2, "measured"),
            (4, "measured"),
            (8, "out of memory"),
        ]


def test_efficiency_is_the_samples_a_second_over_those_of_as_many_single_devices():
    points = [
        point(1, 2, 10.0, ("weak", "batch")),
        point(4, 8, 36.0, ("weak",)),
        point(1, 4, 12.0, ("strong", "batch")),
        point(4, 4, 24.0, ("strong",)),
        point(4, 8, 30.0, ("weak",), dtype="float32"),
    ]
    one, weak, strong_one, strong, lonely = scaling.with_efficiency(points)
    assert one["efficiency"] == {"weak": 1.0} and strong_one["efficiency"] == {"strong": 1.0}
    assert weak["speed_up"] == {"weak": pytest.approx(3.6)} and weak["efficiency"] == {"weak": pytest.approx(0.9)}
    assert strong["speed_up"] == {"strong": pytest.approx(2)} and strong["efficiency"] == {"strong": pytest.approx(0.5)}
    assert lonely["efficiency"] == {}, "without one device in its dtype there is nothing to compare with"


def test_what_does_not_fit_on_one_device_leaves_the_others_without_an_efficiency():
    full = {"status": "out of memory", "reason": "no room", "samples_a_second": None}
    points = scaling.with_efficiency([point(1) | full, point(2)])
    assert [p["efficiency"] for p in points] == [{}, {}]


@pytest.mark.parametrize(
    ("traced", "step", "source"),
    [(110.0, 110.0, "XLA, as traced"), (3.0, 100.0, "convolutions"), (None, 100.0, "convolutions")],
)
def test_the_convolutions_count_where_the_compiler_counts_nothing_like_them(traced, step, source):
    operations = scaling_worker.chosen_operations(traced, 55.0, 100.0)
    assert (operations["step"], operations["from"]) == (step, source)
    assert (operations["xla_traced"], operations["convolutions"]) == (traced, 100.0)


def test_a_round_is_as_many_calls_as_fill_its_time(monkeypatch):
    clock, calls = SimpleNamespace(now=0.0), []

    def run():
        clock.now += 0.25
        calls.append(None)
        return jnp.zeros(())

    monkeypatch.setattr(scaling_worker.time, "perf_counter", lambda: clock.now)
    assert scaling_worker.rounds(run, 3, 1.0) == [0.25] * 3
    assert len(calls) == 2 + 3 * 4


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."), True),
        (MemoryError("needs 40 GB"), True),
        (RuntimeError("INTERNAL: no such kernel"), False),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error, full):
    assert scaling_worker.is_out_of_memory(error) == full


def test_a_program_that_the_host_has_no_room_for_is_not_run(monkeypatch):
    monkeypatch.setattr(machine, "host_memory", lambda name: 10_000_000_000)
    monkeypatch.setattr(scaling_worker.jax, "default_backend", lambda: "cpu")
    scaling_worker._refuse_more_than_the_host_has(4_000_000_000, 2)
    with pytest.raises(MemoryError, match=r"needs 12\.0 GB, of which 10\.0 are left"):
        scaling_worker._refuse_more_than_the_host_has(4_000_000_000, 3)


def test_what_was_known_before_memory_ran_out_is_kept_and_any_other_error_is_raised(monkeypatch):
    def fail(error):
        def train(found, *_):
            found["compile_seconds"] = 3.0
            raise error

        monkeypatch.setattr(scaling_worker, "_train", train)
        return scaling_worker.training("", 0, "float32", 1, 4, 1, 1.0)

    monkeypatch.setattr(scaling_worker.cpu, "configure", lambda **_: None)
    full = fail(RuntimeError("RESOURCE_EXHAUSTED: no room\nfor this"))
    assert full == {"status": "out of memory", "reason": "RESOURCE_EXHAUSTED: no room", "compile_seconds": 3.0}
    with pytest.raises(RuntimeError, match="no such kernel"):
        fail(RuntimeError("no such kernel"))


@pytest.mark.parametrize(
    ("program", "result"),
    [
        ("import os; os.kill(os.getpid(), 9)", ("out of memory", "the system ended it")),
        ("raise SystemExit('INTERNAL: no such kernel')", ("failed", "INTERNAL: no such kernel")),
        ("raise SystemExit(3)", ("failed", "ended with status 3")),
    ],
)
def test_a_worker_that_ends_says_why(tmp_path, monkeypatch, program, result):
    monkeypatch.setattr(scaling, "command", lambda verb: [sys.executable, "-c", program])
    answer = scaling.run_worker("training", {}, 0, tmp_path / "log")
    assert answer["status"] == result[0] and answer["reason"].startswith(result[1])


def test_a_pretended_device_count_reaches_the_worker_beside_the_users_flags(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "command", lambda verb: [sys.executable, "-c", _SHOW_FLAGS])
    monkeypatch.setenv("XLA_FLAGS", "--xla_one=1")
    flags = scaling.run_worker("training", {}, 4, tmp_path / "log")
    assert flags[:2] == ["--xla_one=1", "--xla_force_host_platform_device_count=4"]
    assert scaling.run_worker("training", {}, 0, tmp_path / "log") == ["--xla_one=1"]


_SHOW_FLAGS = "import json, os; print(json.dumps(os.environ['XLA_FLAGS'].split()))"


def test_a_checkout_names_its_commit_and_an_installed_package_none(tmp_path, monkeypatch):
    assert machine._kilobytes("MemTotal:  20 kB\nMemAvailable:  16 kB\n", "MemAvailable") == 16 * 1024
    monkeypatch.setattr(machine, "_ROOT", tmp_path)
    assert machine.commit() is None
    for arguments in (["init"], ["-c", "user.name=a", "-c", "user.email=b", "commit", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)
    head = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert len(machine.commit()) == 12 and head.stdout.startswith(machine.commit())


def run_scaling(*arguments):
    command = [sys.executable, "-m", "launch.benchmark", "--suite=scaling", "--trial", "--repeats=2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_the_suite_measures_a_stage_over_devices_and_batches_and_says_all_about_the_machine(tmp_path):
    output, trace = tmp_path / "machine.json", tmp_path / "trace"
    result = run_scaling(
        "--devices=2",
        "--dtypes=float32",
        "--largest_batch=1",
        "--only=stage one",
        f"--output={output}",
        f"--trace={trace}",
    )
    assert result.returncode == 0, result.stderr
    written = json.loads(output.read_text())
    about = written["about"]
    assert about["platform"] == "cpu" and about["pretended_devices"] and about["trial"]
    assert about["plan"]["slices"]["batch_size"] == 4 and about["asked"]["devices"] == 2
    assert about["cores"] > 0 and about["memory_bytes_of_the_host"] > 1e8 and about["processor"]
    assert {"jax", "jaxlib", "cascade_jax"} <= set(about["versions"]) and about["python"] and about["time"]
    assert {"commit", "driver", "platform_version", "settings", "device", "device_count"} <= set(about)
    measured = [(p["devices"], p["batch_size"], tuple(p["series"])) for p in written["points"]]
    assert measured == [(1, 4, ("weak", "strong")), (2, 8, ("weak",)), (2, 4, ("strong",)), (1, 1, ("batch",))]
    for p in written["points"]:
        assert p["status"] == "measured", p["reason"]
        seconds = p["step_seconds"]
        assert 0 < seconds["lowest"] <= seconds["median"] <= seconds["highest"] and len(seconds["rounds"]) == 2
        assert p["samples_a_second"] == pytest.approx(p["batch_size"] / seconds["median"])
        assert p["compile_seconds"] > 0 and p["trace_seconds"] > 0
        operations = p["operations"]
        assert operations["from"] == "XLA, as traced"
        assert operations["step"] == pytest.approx(operations["convolutions"], rel=0.2)
        assert operations["xla_compiled_of_a_device"] * p["devices"] == pytest.approx(operations["step"], rel=0.2)
        assert p["utilisation"] == pytest.approx(operations["step"] / seconds["median"] / p["matrix_flops_a_second"])
        assert p["memory"]["program_bytes_of_a_device"] > 1e6 and p["memory"]["peak_bytes_of_the_process"] > 1e7
    one, two, *_ = written["points"]
    assert two["efficiency"]["weak"] == pytest.approx(two["samples_a_second"] / one["samples_a_second"] / 2)
    assert list(trace.glob("stage1/**/*.xplane.pb")) and not (trace / "stage2").exists()
    assert "| 1 | float32 | 2 | 8 |" in result.stdout and "figures mean nothing" in result.stdout


def test_the_vote_of_five_folds_is_timed(tmp_path):
    workspace.write_plan(tmp_path, trial=True)
    arguments = {"workspace": str(tmp_path), "dtype": "bfloat16", "repeats": 2, "round_seconds": 0.01}
    found = scaling.run_worker("prediction", arguments, 0, tmp_path / "log")
    assert found["status"] == "measured", found["reason"]
    assert found["folds"] == 5 and found["cases_a_second"] == pytest.approx(1 / found["case_seconds"]["median"])


def test_another_suite_beside_it_is_refused_in_one_line():
    result = run_scaling("--suites=scaling,train")
    assert result.returncode == 1
    assert result.stderr == "error: --suites=scaling,train: has others beside scaling, which runs alone\n"


def test_what_cannot_be_measured_is_refused(monkeypatch):
    about = ABOUT | {"default_dtype": "bfloat16", "device_count": 1}
    monkeypatch.setattr(scaling, "run_worker", lambda *arguments: dict(about))
    settings = scaling.Settings(None, scaling.DTYPES, None, 1, "stage three", True, None)
    with pytest.raises(ConfigError, match="--only=stage three is in the name of no measurement"):
        scaling.run(settings, print)
    more = scaling.Settings(4, scaling.DTYPES, None, 1, "", True, None)
    with pytest.raises(ConfigError, match="--devices=4: this machine has 1"):
        scaling.run(more, print)
    coarse = scaling.Settings(None, ("float8",), None, 1, "", True, None)
    with pytest.raises(ConfigError, match="--dtypes: 'float8' is none of float32, bfloat16"):
        scaling.run(coarse, print)


def test_an_accelerator_measures_all_of_its_devices_in_its_own_dtype_first(monkeypatch):
    asked = []

    def answer(function, arguments, pretended, log):
        if function == "describe":
            return ABOUT | {"default_dtype": "bfloat16"}
        asked.append((function, arguments["dtype"], arguments.get("devices"), pretended))
        return {"status": "failed", "reason": "is not there"}

    monkeypatch.setattr(scaling, "run_worker", answer)
    figures = scaling.run(scaling.Settings(None, scaling.DTYPES, None, 1, "", True, None), lambda _: None)
    assert asked[0] == ("training", "bfloat16", 1, 0)
    assert ("training", "float32", 8, 0) in asked
    assert asked[-2:] == [("prediction", "bfloat16", None, 0), ("prediction", "float32", None, 0)]
    assert max(p["batch_size"] for p in figures["points"] if "batch" in p["series"]) == 64
    assert "failed: is not there" in scaling_tables.as_text(figures)


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def two_machines(folder):
    h100 = [
        point(1, 2, 160.0, ("weak", "batch")),
        point(8, 16, 1000.0, ("weak",)),
        point(1, 4, 200.0, ("batch",)),
        point(1, 8, series=("batch",), status="out of memory", reason="RESOURCE_EXHAUSTED"),
    ]
    laptop = [
        point(1, 4, 2.0, ("weak", "batch"), stage=1, dtype="float32"),
        {**point(1, 2, stage=2, dtype="float32"), "status": "out of memory", "reason": "needs 40 GB"},
    ]
    about = ABOUT | {"platform": "cpu", "device": "cpu", "device_count": 1, "memory_bytes_of_a_device": None}
    return (
        write(folder / "h100.json", figures(h100)),
        write(folder / "laptop.json", figures(laptop, about | {"commit": None, "driver": None})),
    )


def test_two_machines_stand_in_one_table(tmp_path):
    read = [machines.read_machine(path) for path in two_machines(tmp_path)]
    head, _, h100, one, two, _, *about = machines.table(read).splitlines()
    assert [cell.strip() for cell in h100.split("|")[1:-1]] == [
        "h100",
        "2",
        "bfloat16",
        "160 (128 to 200)",
        "25 %",
        "30",
        "2.00",
        "4: 200",
        "8 does not fit",
        "8",
        "1e+03",
        "0.78",
        "7 on 8 devices",
    ]
    assert one.startswith("| laptop | 1 | float32 | 2 (1.6 to 2.5) | 25 % |")
    assert two.startswith("| laptop | 2 | float32 | out of memory |")
    assert {line.count("|") for line in (head, h100, one, two)} == {14}
    assert about == [
        "- h100: 8 x NVIDIA H100; 80 GB; 16 cores; jax 0.10.2, jaxlib 0.10.2; driver 550; commit abc",
        "- laptop: Xeon; 1000 GB; 16 cores; jax 0.10.2, jaxlib 0.10.2; cascade_jax 0.1.0",
    ]


def compare(*arguments):
    command = [sys.executable, "-m", "launch.console", "benchmarks.compare_machines", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_the_table_and_the_plot_are_written_and_nothing_else_is_replaced(tmp_path):
    pytest.importorskip("matplotlib")
    files, output = two_machines(tmp_path), tmp_path / "out"
    result = compare(*files, f"--output={output}")
    assert result.returncode == 0, result.stderr
    assert (output / "machines.md").read_text() == result.stdout
    assert (output / "machines.png").read_bytes().startswith(b"\x89PNG")
    (output / "machines.md").write_text("mine")
    assert compare(*files, f"--output={output}").returncode == 1
    assert (output / "machines.md").read_text() == "mine"


def test_a_broken_file_is_one_line_and_nothing_is_written(tmp_path):
    h100, _ = two_machines(tmp_path)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    result = compare(h100, broken, f"--output={tmp_path / 'out'}")
    assert result.returncode == 1 and not (tmp_path / "out").exists()
    [line] = result.stderr.strip().splitlines()
    assert line.startswith(f"error: {broken}: is not JSON")


def damaged(content, change):
    content = copy.deepcopy(content)
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda content: content.pop("suite"), "is not what `cascade-jax benchmark --suites=scaling"),
        (lambda content: content.pop("points"), "is damaged: it lacks 'points'"),
        (lambda content: content["points"][0].pop("utilisation"), "is damaged: it lacks 'utilisation'"),
        (lambda content: content["points"][0].update(stage=3), "is damaged: there is no stage 3"),
        (lambda content: content["points"][0].update(samples_a_second="many"), "is damaged: "),
        (lambda content: content.update(about=None), "is damaged: "),
    ],
)
def test_a_file_that_lacks_a_figure_is_named_with_what_it_lacks(tmp_path, change, fault):
    path = write(tmp_path / "one.json", damaged(figures([point(1), point(2, 4, 19.0)]), change))
    with pytest.raises(CaseError) as raised:
        machines.read_machine(path)
    assert raised.value.fault.startswith(fault) and raised.value.path == str(path)


def test_two_files_of_one_name_are_refused_since_the_name_is_the_machines(tmp_path):
    (tmp_path / "other").mkdir()
    one, other = (write(folder / "h100.json", figures([point(1)])) for folder in (tmp_path, tmp_path / "other"))
    result = compare(one, other, f"--output={tmp_path / 'out'}")
    assert result.returncode == 1
    assert result.stderr.strip() == f"error: {other}: is called like {one}, and the name is the machine's: rename one"
