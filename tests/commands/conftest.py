"""A small training that is run to its end once."""

import dataclasses
import pickle
import shutil

import numpy as np
import pytest
from filelock import FileLock

from tests.commands.command_line import run, train_command


@pytest.fixture(scope="session")
def trained(tmp_path_factory, shared_folder):
    """The working folder, a copy for each of the processes that run tests, and what the command said."""
    folder = shared_folder / "trained"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            result = run("train", **train_command(folder / "tiny"))
            assert result.returncode == 0, result.stderr
            (folder / "result").write_bytes(pickle.dumps(result))
    workdir = tmp_path_factory.mktemp("run") / "tiny"
    shutil.copytree(folder / "tiny", workdir)
    return workdir, pickle.loads((folder / "result").read_bytes())


@pytest.fixture(scope="module")
def heart(case):
    """The simulated heart, with an infarct in a quarter of it and no-reflow in a part of that."""
    rows, columns = (np.arange(size) - size / 2 for size in case.image.shape[1:])
    labels = case.labels.copy()
    labels[(labels == 2) & (rows[:, None] > 0) & (columns > 0)] = 3
    labels[(labels == 3) & (rows[:, None] > columns + 3)] = 4
    return dataclasses.replace(case, labels=labels)
