"""Kept programs: found again without tracing, by a process that starts anew, and only where nothing has changed."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_jax import kept_programs


@pytest.fixture
def folder(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / "programs"
    jax.config.update("jax_compilation_cache_dir", before)


def start(made_from="doubling"):
    """What a new start makes of a function, and a list that grows when it is traced."""
    traced = []

    def double(tree):
        traced.append(tree)
        return jax.tree.map(lambda leaf: leaf + leaf, tree)

    return kept_programs.kept(jax.jit(double), made_from), traced


def test_a_second_start_computes_the_same_without_tracing(folder):
    first, traced = start()
    argument = {"a": jnp.arange(5.0), "b": np.ones((2, 3), np.int32)}
    expected = first(argument)
    assert len(traced) == len(list(folder.iterdir())) == 1
    second, traced = start()
    for _ in range(2):
        jax.tree.map(np.testing.assert_array_equal, second(argument), expected)
    assert not traced


@pytest.mark.parametrize(
    "argument",
    [jnp.arange(6.0), jnp.arange(5), np.arange(5.0, dtype=np.float16), (jnp.arange(5.0),), 2.0],
    ids=["shape", "dtype", "half", "structure", "weak type"],
)
def test_other_arguments_are_another_program(folder, argument):
    start()[0](jnp.arange(5.0))
    again, traced = start()
    jax.tree.map(lambda left, right: np.testing.assert_array_equal(left, 2 * right), again(argument), argument)
    assert len(traced) == 1
    again(jnp.arange(5.0))
    assert len(traced) == 1


def test_another_function_or_source_or_setting_is_another_program(folder, monkeypatch):
    start()[0](1.5)
    for changed in ("function", "source", "setting"):
        with monkeypatch.context() as patch:
            if changed == "source":
                patch.setattr(kept_programs, "_surroundings", lambda: "another source")
            with jax.default_matmul_precision("float32" if changed == "setting" else None):
                function, traced = start("something else" if changed == "function" else "doubling")
                assert function(1.5) == 3
        assert len(traced) == 1, changed
    function, traced = start()
    assert function(1.5) == 3
    assert not traced


def test_a_damaged_program_is_compiled_again_and_replaced(folder):
    start()[0](1.5)
    (file,) = folder.iterdir()
    for content in (b"damaged", file.read_bytes()[:-100]):
        file.write_bytes(content)
        function, traced = start()
        assert function(1.5) == 3
        assert len(traced) == 1
        function, traced = start()
        assert function(1.5) == 3
        assert not traced


def test_a_folder_that_cannot_be_written_keeps_nothing_from_working(folder):
    folder.write_text("a file in its place")
    function, traced = start()
    assert function(1.5) == 3
    assert len(traced) == 1


def test_the_longest_unused_programs_make_room(folder, monkeypatch):
    for size in (3, 4, 5):
        start()[0](jnp.ones(size))
    for file in folder.iterdir():  # a file system may tell times no better than to some milliseconds
        os.utime(file, (1_700_000_000, 1_700_000_000))
    monkeypatch.setattr(kept_programs, "_MOST_BYTES_KEPT", 2.5 * max(file.stat().st_size for file in folder.iterdir()))
    assert start()[0](jnp.ones(3)).shape == (3,)  # used again
    start()[0](jnp.ones(6))
    assert len(list(folder.iterdir())) == 2
    for size, traces in ((3, 0), (6, 0), (4, 1)):
        function, traced = start()
        function(jnp.ones(size))
        assert len(traced) == traces, size


def test_without_a_folder_of_compiled_programs_nothing_is_kept(folder):
    jax.config.update("jax_compilation_cache_dir", None)
    function, _ = start()
    assert function(1.5) == 3
    assert not folder.exists()


_TRAINING_STEP = """
import sys
import jax, jax.numpy as jnp
from cascade_jax import compilation

jax.config.update("jax_compilation_cache_dir", sys.argv[1])

def step(state, key):
    print("traced")
    kernel = jax.random.normal(key, state["kernel"].shape)
    return {"kernel": state["kernel"] @ kernel, "step": state["step"] + 1}

run = compilation.jit(step, made_from="a step", donate_argnums=0)
start = {"kernel": jnp.ones((64, 64)), "step": jnp.zeros((), jnp.int32)}
after = run(run(start, jax.random.key(1)), jax.random.key(2))
print(start["kernel"].is_deleted(), float(jnp.sum(after["kernel"] ** 2)), int(after["step"]))
"""


def test_another_process_finds_a_step_that_consumes_its_state(tmp_path):
    first, second = (
        subprocess.run(
            [sys.executable, "-c", _TRAINING_STEP, tmp_path], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert first == f"traced\n{second}"
    assert second.startswith("True ")
