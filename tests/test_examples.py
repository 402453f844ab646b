"""The library's page, run as it stands."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "library.md"


def test_every_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 7
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
