"""The benchmark runs, says what it measured, and says where this library loses."""

import importlib.util
import json
import os
import pickle
import re
import subprocess
import sys
import time
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from cascade_jax.models.unet import params_like
from launch import benchmark
from launch.benchmark import aims, contest_rows, layer_rows, losses, rates
from launch.benchmarks import alternatives, layers, nnunet_loader, ours, worker, workspace
from launch.benchmarks.suites import SUITES
from launch.benchmarks.worker import Contestant

RESULT = {
    "name": "training step",
    "seconds": {"ours": [1.0, 1.2, 1.1], "PyTorch": [2.0, 2.4, 2.2], "nnU-Net": [0.5, 0.6, 0.55]},
    "peak_bytes": {"ours": 3_000_000_000, "PyTorch": 4_000_000_000, "nnU-Net": 2_000_000_000},
    "ratios": {
        "PyTorch": {"median": 0.5, "lowest": 0.5, "highest": 0.5},
        "nnU-Net": {"median": 2.0, "lowest": 2.0, "highest": 2.0},
    },
    "targets": {"PyTorch": 0.9, "nnU-Net": 0.9},
    "memory_target": {"PyTorch": 1.0},
    "seconds_target": None,
    "samples": 4,
    "operations": 2_200_000_000_000,
    "failures": {},
}


def test_table_says_which_targets_are_met():
    ours, torch, nnunet = contest_rows(RESULT)
    assert "1.1 (1 to 1.2)" in ours and "3.00" in ours
    assert "**0.50**" in torch and "0.9: met" in torch and "0.75 (1: met)" in torch
    assert "**2.00**" in nnunet and "0.9: missed" in nnunet and "1.50" in nnunet
    without = RESULT | {"targets": {}, "memory_target": {}}
    assert not any("met" in row or "missed" in row for row in contest_rows(without))


def test_each_platform_has_its_aims():
    loop = SUITES["loop"][0]
    assert aims(loop, "cpu")["targets"] == {"our bare step": 1.05}
    assert aims(loop, "gpu")["targets"] == {"nnU-Net": 0.667}
    start = SUITES["loop"][-1]
    assert aims(start, "cpu")["seconds_target"] == 10 and aims(start, "gpu")["seconds_target"] is None
    stage_two = SUITES["train"][1]
    assert aims(stage_two, "cpu")["memory_target"] == {"PyTorch": 1.1, "nnU-Net": 1.1}
    assert aims(stage_two, "tpu") == {"targets": {}, "memory_target": {}, "seconds_target": None}


def test_table_says_what_failed():
    failed = RESULT | {"failures": {"nnU-Net": "no memory"}}
    assert any("failed: no memory" in row for row in contest_rows(failed))


def test_losses_are_named():
    assert losses([RESULT]) == ["training step: 2.00 times the time of nnU-Net"]


def test_steps_are_set_against_a_matrix_product():
    assert rates([RESULT, RESULT | {"samples": None}], 8e12) == [
        "training step: ours 3.64, PyTorch 1.82, nnU-Net 7.27; ours 2 TFLOP/s, 25 % of a matrix product's"
    ]


@pytest.mark.parametrize("stage", [0, 1])
def test_operations_are_those_that_the_compiler_counts(tmp_path, stage):
    workspace.make(tmp_path, trial=True)
    network, batch_size, shape = ours.stage_of(str(tmp_path), stage, convolve=alternatives.compilers_convolution)
    inputs = jax.ShapeDtypeStruct((batch_size, *shape), jnp.float32)

    def logits(params, inputs):
        return network.apply({"params": params}, inputs, deep_supervision=True)

    lowered = jax.jit(logits).lower(params_like(network, shape), inputs)
    counted = lowered.cost_analysis()["flops"]
    # The compiler counts norms and the like too, and not the products of a kernel with padding.
    assert 0.8 < 3 * counted / layers.step_operations(str(tmp_path), stage) < 1.3


def test_a_short_work_is_repeated_until_a_turn_is_long_enough(monkeypatch):
    monkeypatch.setattr(worker, "_SHORTEST_TURN_SECONDS", 1.0)
    calls = []

    def work():
        calls.append(None)
        time.sleep(0.1)
        return 2

    assert worker._seconds_of_a_unit(work) == pytest.approx(0.05, rel=0.5)
    assert 5 <= len(calls) <= 10


def test_layers_have_a_line_for_each_shape():
    shape = {"inputs": [1, 8, 8, 2], "kernel": [3, 3, 2, 4], "strides": [1, 1]}
    rows = [
        shape | {"what": what, "convolution": convolution, "gflops": 12.0, "share": 0.25}
        for what in ("forward", "kernel gradient")
        for convolution in ("ours", "compiler")
    ]
    table = layer_rows(rows)
    assert table[0] == "| input | kernel | strides | forward | kernel gradient |"
    assert table[2:] == ["| 1 x 8 x 8 x 2 | 3 x 3 x 2 x 4 | 1 x 1 | 12 (25 %), 12 (25 %) | 12 (25 %), 12 (25 %) |"]


def test_every_contestant_exists():
    modules = {}
    for name in ("ours", "peers", "pytorch", "alternatives"):
        modules[name] = importlib.import_module(f"launch.benchmarks.{name}")
    for contest in (contest for contests in SUITES.values() for contest in contests):
        for target in (contest.ours, *(rival for rival, _ in contest.rivals.values())):
            module, function = target.split(".")
            assert callable(getattr(modules[module], function))
        assert {*contest.targets, *contest.gpu_targets, *contest.memory_target} <= set(contest.rivals)


def test_a_contestant_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match=r"plan\.json"):
        Contestant("ours.forward", {"workspace": str(tmp_path), "stage": 0}, {}, tmp_path / "log")


def test_a_contestant_that_ends_early_is_started_once_more(tmp_path, monkeypatch, capsys):
    log, starts = tmp_path / "log", []

    def contestant(*arguments):
        starts.append(arguments)
        log.write_text("one worker is dead\ngiving up")
        if len(starts) < 2:
            raise RuntimeError("giving up")
        return "ready"

    monkeypatch.setattr(benchmark, "Contestant", contestant)
    assert benchmark.start("peers.nnunet_loop", {"stage": 1}, {}, log) == "ready"
    assert starts[0] == starts[1] == ("peers.nnunet_loop", {"stage": 1}, {}, log)
    assert "one worker is dead" in capsys.readouterr().err


@pytest.mark.parametrize(("free", "said"), [(64_000_000, True), (2**30, False)])
def test_shared_memory_that_is_too_small_for_the_rivals_loader_is_said(tmp_path, monkeypatch, free, said):
    monkeypatch.setattr(nnunet_loader, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(nnunet_loader.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    lacking = nnunet_loader.shared_memory_lacking()
    assert lacking == (f"through pipes, since {tmp_path} has only 64 MB" if said else None)


def test_a_system_without_shared_memory_files_lacks_none(tmp_path, monkeypatch):
    monkeypatch.setattr(nnunet_loader, "_SHARED_MEMORY", tmp_path / "none")
    assert nnunet_loader.shared_memory_lacking() is None


def test_tensors_sent_through_pipes_arrive(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(ForkingPickler, "_extra_reducers", {**ForkingPickler._extra_reducers})
    nnunet_loader.send_through_pipes()
    sent = [torch.arange(6.0).reshape(2, 3).T, torch.tensor([[3]], dtype=torch.int16)]
    packed = bytes(ForkingPickler.dumps(sent))
    assert b"storage" not in packed
    for one, other in zip(sent, pickle.loads(packed), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_the_rivals_blur_takes_no_fourier_transform_and_blurs_as_before(monkeypatch):
    torch = pytest.importorskip("torch")
    blur = pytest.importorskip("batchgeneratorsv2.transforms.noise.gaussian_blur")
    transform = blur.GaussianBlurTransform((0.5, 1.0), benchmark=True)
    monkeypatch.setattr(blur.GaussianBlurTransform, "_benchmark_wrapper", blur.GaussianBlurTransform._benchmark_wrapper)
    image = torch.randn(1, 8, 24, 20)
    settings = {"apply_to_channel": torch.tensor([True]), "sigmas": [[0.6, 0.8, 1.0]]}
    expected = transform._apply_to_image(image.clone(), **settings)
    monkeypatch.setattr(blur, "fft_conv", None)
    nnunet_loader.blur_directly()
    torch.testing.assert_close(transform._apply_to_image(image.clone(), **settings), expected, rtol=1e-4, atol=1e-5)


def run_benchmark(*arguments):
    command = [sys.executable, "-m", "launch.benchmark", "--trial", "--nopeers", "--repeats=1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_the_command_measures_this_library_alone(tmp_path):
    output = tmp_path / "figures.json"
    result = run_benchmark("--suites=train,augment,prepare", "--only=of one", f"--output={output}")
    assert result.returncode == 0, result.stderr
    assert "augmentation of one sample, stage two" in result.stdout and "preparation of one case" in result.stdout
    assert "platform" in result.stdout
    assert re.search(r"augmentation of one sample, stage two: ours, 1 of 1: [\d.e-]+ s\n", result.stderr)
    figures = json.loads(output.read_text())
    assert [len(contest["seconds"]["ours"]) for contest in figures["contests"]] == [1, 1, 1]
    assert all(seconds > 0 for contest in figures["contests"] for seconds in contest["seconds"]["ours"])


def test_an_alternative_changes_what_it_says():
    program = """
import json, os, sys
from cascade_jax.cpu import configuration
from launch.benchmarks import alternatives, ours
held = []
configuration._hold_freed_memory = lambda: held.append(1)
step = lambda *_: configuration.configure(hold_memory=True)
predict = lambda *_: configuration.configure()
ours.train_step, ours.predict = step, predict
alternatives._WORKS |= {"step": step, "predict": predict}
eval(sys.argv[1])
print(json.dumps(["ynn_fusion" in os.environ.get("XLA_FLAGS", ""), bool(held)]))
"""
    for call, flag_and_memory in {
        "ours.train_step()": [True, True],
        "ours.predict()": [True, False],
        "alternatives.without_faster_convolutions('', 'step')": [False, True],
        "alternatives.step_with_memory_taken_anew('', 0)": [True, False],
        "alternatives.predict_with_memory_held('', False)": [True, True],
    }.items():
        environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", program, call]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert json.loads(result.stdout) == flag_and_memory, call


def test_a_work_that_no_suite_has_is_refused_in_one_line():
    result = run_benchmark("--suites=train", "--only=stage three")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == "error: --only=stage three: is in the name of no work of train"


def test_an_unknown_suite_is_refused_in_one_line():
    result = run_benchmark("--suites=train,nothing")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == "error: --suites=train,nothing: has no suite 'nothing'"


@pytest.mark.parametrize("stage", [0, 1])
def test_the_rival_network_is_the_same_network(tmp_path, stage):
    pytest.importorskip("torch")
    pytest.importorskip("dynamic_network_architectures")
    import jax

    from cascade_jax.cascade import build_networks, input_shapes
    from cascade_jax.models.unet import params_like
    from launch.benchmarks import pytorch

    workspace.make(tmp_path, trial=True)
    plan = workspace.plan(tmp_path)
    params = params_like(build_networks(plan, "float32")[stage], input_shapes(plan)[stage])
    ours = sum(leaf.size for leaf in jax.tree.leaves(params))
    theirs = pytorch.build_network(str(tmp_path), stage, input_shapes(plan)[stage][-1])
    # Theirs has a bias in every convolution before a norm, which removes it again.
    biases = sum(
        parameter.numel()
        for name, parameter in theirs.named_parameters()
        if name.endswith("conv.bias")
        and "all_modules" not in name
        and "seg_layers" not in name
        and "decoder.encoder" not in name
    )
    assert sum(parameter.numel() for parameter in theirs.parameters()) - biases == ours
