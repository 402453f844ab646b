"""What all tests share."""

import os

import jax
import pytest

# Files that take minutes come first, so that no process is left alone with one at the end.
_LONGEST = (
    "documents/test_commands.py",
    "training/test_training.py",
    "commands/test_hosts.py",
    "training/test_robustness.py",
    "training/test_pretraining.py",
    "documents/test_notebooks.py",
    "test_real_cohort.py",
    "training/test_other_images.py",
    "launch/test_benchmark.py",
    "commands/test_commands.py",
    "commands/test_train.py",
    "launch/test_scaling.py",
)


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # by the number of tests, which says little of their time


def pytest_collection_modifyitems(items):
    def place(item):
        file = item.nodeid.split("::")[0].removeprefix("tests/")
        return _LONGEST.index(file) if file in _LONGEST else len(_LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A folder that all processes that run the tests share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def quick_compilation(shared_folder):
    """Programs are compiled once in a run of the tests, though many tests, and the commands that they start, build them
    anew, and without the optimisations that take longer than a test's few calls; nothing outlives the run."""
    settings = {
        "jax_compilation_cache_dir": str(shared_folder / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    # Not a setting that can be read; it ends with the process.
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
        del os.environ[name.upper()]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """The simulated heart of the DICOM tests."""
    from tests.data.dicom_series import simulated_case  # pydicom may not be there

    return simulated_case(tmp_path_factory.mktemp("cohort"))
