"""Every command in the documents has a verb and flags that there are, and every setting of a config is one."""

import functools
import importlib
import json
import subprocess
import sys

import pytest

from launch import console
from tests.documents.commands import COMMANDS, ROOT


@functools.cache
def flags_of(verb):
    """{flag: whether it is boolean} of a command, asked in a process of its own, since flags are one name space."""
    program = (
        "import importlib, json, sys; from absl import flags; importlib.import_module(sys.argv[1]); "
        "print(json.dumps({name: flags.FLAGS[name].boolean for name in flags.FLAGS}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, f"launch.{verb}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout.splitlines()[-1])


def config_of(command):
    [value] = [part.split("=", 1)[1] for part in command.arguments if part.startswith("--config=")] or ["default"]
    name, _, argument = value.removeprefix("launch/configs/").partition(":")
    module = importlib.import_module(f"launch.configs.{name.removesuffix('.py')}")
    return module.get_config(argument) if argument else module.get_config()


def test_the_documents_have_commands():
    assert len(COMMANDS) > 30
    assert {"predict", "evaluate", "quantify", "report", "train", "release"} <= {one.verb for one in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_of_the_documents_can_be_typed(command):
    assert command.verb in console.VERBS or command.verb.startswith(("benchmark", "septum")), command.verb
    known, config = flags_of(command.verb), None
    for argument in command.arguments:
        if not argument.startswith("-"):
            continue
        name = argument.lstrip("-").split("=", 1)[0]
        if name.startswith("config."):
            config = config_of(command) if config is None else config
            value = config
            for key in name.split(".")[1:]:
                assert key in value, f"{argument}: the config has no {key}"
                value = value[key]
        elif name.removeprefix("no") in known and name not in known:
            assert known[name.removeprefix("no")], argument
        else:
            assert name in known or name == "help", argument
