"""The commands that the documents show."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\S*)\n(?P<block>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"^    (?P<line>(?:python|cascade-jax) .*)$|`(?P<span>[^`]+)`", re.MULTILINE)
_LAUNCH = re.compile(r"(?:\S*/)?(cascade-jax|python -m launch)(?:[ .](\S+))?(.*)")
_NEXT = re.compile(r" && (?=\S*(?:python|pip|ruff|cascade-jax|cd)\b)")
_OTHER_PROGRAM = re.compile(r"(?:docker|git|pip|podman|python3?|sbatch|ssh|tensorboard) \S")


class Command(NamedTuple):
    """A command of a page.

    Attributes:
        page: its file name.
        program: "cascade-jax", "python -m launch", or "" for another program.
        verb: what is done; of another program "".
        arguments: flags and inputs, as they are typed; of another program the whole line.
    """

    page: str
    program: str
    verb: str
    arguments: str

    def __str__(self) -> str:
        return f"{self.page}: {self.verb} {self.arguments}"


def commands_of(page: Path) -> list[Command]:
    """The commands of a page, in their order, each once."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found, at = [], 0
    for block in _BLOCK.finditer(text):
        found += _between_blocks(page.name, text[at : block.start()])
        at = block.end()
        if block["language"] not in ("python", "{toctree}"):
            for line in filter(None, map(str.strip, block["block"].splitlines())):
                found += [_command(page.name, part) for part in _NEXT.split(line)]
    found += _between_blocks(page.name, text[at:])
    return list(dict.fromkeys(found))


def _between_blocks(page: str, text: str) -> Iterator[Command]:
    """The commands in a line of their own, or within a sentence, which also names commands without saying how."""
    for code in _CODE.finditer(text):
        command = _command(page, " ".join((code["line"] or code["span"]).split()))
        if not command.program:
            if _OTHER_PROGRAM.match(command.arguments):
                yield command
        elif command.arguments not in ("", "...") or command.verb.startswith(("--", "benchmark")):
            yield command


def _command(page: str, line: str) -> Command:
    match = _LAUNCH.match(line)
    if match is None:
        return Command(page, "", "", line)
    return Command(page, match[1], match[2] or "", " ".join(match[3].split(" # ")[0].split()))


COMMANDS = [command for page in PAGES for command in commands_of(page)]
