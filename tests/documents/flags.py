"""Whether a command could be typed: its flags and its config's settings are there."""

import importlib
import json
import subprocess
import sys

from tests.documents.commands import ROOT


def check_that_it_can_be_typed(verb, arguments):
    """Fails where a command of `cascade-jax` knows a flag not, or its config a setting."""
    program = (
        "import importlib, json, sys; from absl import flags; importlib.import_module(sys.argv[1]); "
        "print(json.dumps(list(flags.FLAGS)))"
    )
    # In a process of its own, since flags are one name space.
    said = subprocess.run(
        [sys.executable, "-c", program, f"launch.{verb}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    known = json.loads(said.stdout.splitlines()[-1])
    given = [tuple(word.lstrip("-").partition("=")[::2]) for word in arguments]
    config = importlib.import_module(f"launch.configs.{dict(given)['config']}").get_config() if given else None
    for name, _ in given:
        value = config
        for key in name.split(".")[1:]:
            assert key in value, f"{name}: the config has no such setting"
            value = value[key]
        assert "." in name or name in known, name
