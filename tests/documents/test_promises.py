"""Each promise has a test that is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")


def test_every_promise_names_tests_that_are_there():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) > 25
    for row in rows:
        _, promise, tests, _ = row.split("|")
        named = re.findall(r"`([^`]+)`", tests)
        assert named, promise
        assert tests.strip() == ", ".join(f"`{name}`" for name in named), promise
        for name in named:
            path, _, function = name.partition("::")
            assert (ROOT / path).is_file(), name
            there = {node.name for node in ast.parse((ROOT / path).read_text()).body if hasattr(node, "name")}
            assert function.startswith("test_") and function in there, name
