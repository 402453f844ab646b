"""What is compiled is kept in the user's own cache, found again by what it computes, and looked for nowhere else."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import cascade_jax

ROOT = Path(__file__).parents[2]
_SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_compilation_cache_max_size",
)
_UNPICKLING = re.compile(
    r"^\s*(import|from) (pickle|dill|cloudpickle|marshal|shelve|joblib)\b|allow_pickle=True|serialize_executable", re.M
)


def run(program, *arguments, **environment):
    """What a program prints last, as JSON; an environment variable that is None is not set."""
    environment = {name: value for name, value in (os.environ | environment).items() if value is not None}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


_KEEP = f"""
import json
from launch import command
command.configure_jax()
import jax
print(json.dumps([getattr(jax.config, name) for name in {_SETTINGS}]))
"""
_UNSET = {name.upper(): None for name in _SETTINGS}


def test_programs_are_kept_in_the_users_cache(tmp_path):
    for variables in ({"XDG_CACHE_HOME": str(tmp_path / "xdg")}, {"XDG_CACHE_HOME": None, "HOME": str(tmp_path)}):
        folder, seconds, most_bytes = run(_KEEP, **_UNSET | variables)
        cache = Path(variables["XDG_CACHE_HOME"] or tmp_path / ".cache") / "cascade_jax"
        assert Path(folder).parent == cache
        assert re.fullmatch(rf"{re.escape(jax.__version__)}-[0-9a-f]{{12}}", Path(folder).name)
        assert seconds == 0, "what compiles quickly is kept too"
        assert 10**8 < most_bytes < 10**9


def test_jaxs_own_settings_have_precedence(tmp_path):
    variables = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "3"}
    assert run(_KEEP, **_UNSET | variables) == [str(tmp_path), 3, -1]


def test_without_a_home_or_a_folder_to_write_to_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for variables in ({"HOME": str(tmp_path / "file")}, {"XDG_CACHE_HOME": str(tmp_path / "file")}):
        assert run(_KEEP, **_UNSET | {"XDG_CACHE_HOME": None} | variables)[0] is None
    homeless = """
from pathlib import Path
def home():
    raise RuntimeError("Could not determine home directory.")
Path.home = home
"""
    assert run(homeless + _KEEP, **_UNSET | {"XDG_CACHE_HOME": None, "HOME": None})[0] is None


_TRAIN = """
import json, sys
from pathlib import Path
import jax, jax.numpy as jnp, optax
from cascade_jax.training import step
from cascade_jax.training.batches import Batch
from cascade_jax.models import UNet

def draw(key, cohort, cases, positions=None):
    labels = jnp.zeros((2, 8, 8), jnp.uint8).at[:, 2:4].set(1)
    image = labels[..., None] * FACTOR + jax.random.normal(key, (2, 8, 8, 1))
    return Batch(image, labels, jnp.ones(labels.shape, bool), jnp.zeros(2, jnp.int32))

network, optimizer = UNet((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2))), optax.sgd(0.1)
state = step.initial_state(jax.random.key(0), network, optimizer, (2, 8, 8, 1))
_, metrics = step.compile_steps(network, optimizer, draw, 2)(state, None, None)
kept = len(list(Path(jax.config.jax_compilation_cache_dir).glob("*-cache")))
print(json.dumps([metrics["loss"].tolist(), kept]))
"""


def test_an_edited_draw_is_what_the_next_start_runs(tmp_path):
    def train(factor, cache):
        return run(_TRAIN.replace("FACTOR", factor), JAX_COMPILATION_CACHE_DIR=str(tmp_path / cache))

    losses, kept = train("1.0", "cache")
    again, kept_again = train("1.0", "cache")
    assert again == losses
    assert kept_again == kept > 0, "the second start compiles nothing anew"
    edited, _ = train("3.0", "cache")
    assert edited != losses
    assert edited == train("3.0", "another cache")[0]


def test_the_library_listens_to_nothing_that_the_process_compiles(monkeypatch):
    def register(_):
        raise AssertionError("a listener for the whole process")

    monkeypatch.setattr(jax.monitoring, "register_event_duration_secs_listener", register)
    monkeypatch.setattr(jax.monitoring, "register_event_listener", register)
    cascade_jax.load("pretrained")


@pytest.mark.parametrize("package", ["cascade_jax", "launch"])
def test_nothing_is_unpickled(package):
    for path in (ROOT / package).rglob("*.py"):
        if path.name not in ("peers.py", "nnunet_loader.py"):  # the rivals' own
            assert not _UNPICKLING.search(path.read_text()), path
