"""Coverage-guided fuzzing of all readers, run by hand where `atheris` is installed:

    python -m tests.fuzz.atheris_readers CORPUS -max_total_time=1800

CORPUS is a folder that keeps what was found; sound files of each kind are put into it first. The first byte of an input
chooses the reader, the rest is the file. Any other argument is libFuzzer's.
"""

import os
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cascade_jax", "nibabel", "pydicom"]):
    from tests.fuzz.readers import READERS, check

_NAMES = sorted(READERS)


def _one_input(data: bytes) -> None:
    if data:
        check(READERS[_NAMES[data[0] % len(_NAMES)]], data[1:])


def main() -> None:
    corpus = Path(next(word for word in sys.argv[1:] if not word.startswith("-")))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(_NAMES):
        (corpus / f"sound_{name}").write_bytes(bytes([number]) + READERS[name].seed())
    arguments = [sys.argv[0], "-rss_limit_mb=4096", "-malloc_limit_mb=2048", "-max_len=20000", *sys.argv[1:]]
    atheris.Setup(arguments, _one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
