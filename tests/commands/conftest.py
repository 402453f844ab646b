"""A small training that is run to its end once."""

import pytest

from tests.commands.command_line import run, train_command


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "tiny"
    result = run("train", **train_command(workdir))
    assert result.returncode == 0, result.stderr
    return workdir, result
