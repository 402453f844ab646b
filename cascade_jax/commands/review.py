"""Serves the page on which a reader corrects outlines, until Ctrl-C."""

import contextlib
import sys
import webbrowser
from pathlib import Path

from cascade_jax.data import folders
from cascade_jax.data.case import CaseError, number_of_cases
from cascade_jax.errors import ConfigError
from cascade_jax.review.cases import find_cases
from cascade_jax.review.server import ReviewServer


def review(predictions: Path, images: Path, reader: str, port: int, browser: bool) -> None:
    """Serves the page and returns when the user has interrupted it.

    Args:
        predictions: the folder of predictions, in which corrections are written.
        images: of the same cases: a file, a folder of them or a cohort.
        reader: under whose name.
        port: on which; 0 takes a free one.
        browser: whether to open the page.

    Raises:
        CaseError: no case has both labels and an image.
        ConfigError: the port is taken.
    """
    cases, faults = find_cases(predictions, images)
    for line in faults.values():
        print(f"left out: {line}", file=sys.stderr)
    if not cases:
        raise CaseError(predictions, f"holds no case to be reviewed with an image in {images}")
    try:
        server = ReviewServer(predictions, cases, reader, port)
    except OSError as error:
        raise ConfigError(f"port {port} cannot be used: {error.strerror}; --port=0 takes a free one") from None
    with server:
        print(f"{number_of_cases(len(cases))} to look through: {server.url}")
        print(f"Corrections are saved as {reader}'s, under <case>/{folders.CORRECTED}. Ctrl-C ends this.", flush=True)
        if browser:
            webbrowser.open(server.url)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
        with server.saving:  # what is being written is written
            pass
