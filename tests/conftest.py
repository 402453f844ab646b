"""What all tests share."""

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def one_compilation_of_each_program(tmp_path_factory):
    """Programs are compiled once in a run of the tests, though many tests build them anew; nothing outlives the run."""
    folder = tmp_path_factory.mktemp("compiled")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    yield
    jax.config.update("jax_compilation_cache_dir", None)
