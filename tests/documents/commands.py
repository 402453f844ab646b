"""The commands that the documents show."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^( *)```(?:console|bash)?\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_IN_A_LINE = re.compile(r"`(cascade-jax [a-z]+ -[^`]*)`")
_PROGRAM = re.compile(r"(?:.*&& )?(?:\S*/)?(?:cascade-jax |python -m launch\.)(.*)")
_AT_AN_EARLIER_COMMIT = ("benchmarks.recipe",)  # docs/results.md names the commit


class Command(NamedTuple):
    """A command of a page.

    Attributes:
        page: its file name.
        verb: what is done.
        arguments: flags and inputs.
    """

    page: str
    verb: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.verb} {shlex.join(self.arguments)}"


def commands_of(page: Path) -> list[Command]:
    """The commands of a page that have a flag or an input, in their order, each once."""
    text = page.read_text(encoding="utf-8")
    lines = [
        line for _, block in _BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines() if line.strip()
    ]
    lines += [match.replace("\n", " ") for match in _IN_A_LINE.findall(text)]
    found = []
    for line in lines:
        match = _PROGRAM.match(line.strip())
        if match is None:
            continue
        verb, *arguments = shlex.split(match[1], comments=True)
        if arguments and verb.islower() and verb not in _AT_AN_EARLIER_COMMIT:
            found.append(Command(page.name, verb, tuple(arguments)))
    return list(dict.fromkeys(found))


COMMANDS = [command for page in PAGES for command in commands_of(page)]
