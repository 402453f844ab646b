"""The page's server: for this machine, for whoever has its address, and for the cases that were found, alone.

It listens on 127.0.0.1. Every path begins with a random token; nothing is answered without it, under another host name
(which keeps out pages that have their own name resolved to this machine) or, where something is sent, from another
page. What a path names is looked up among the cases and the page's own files: no path is opened as it comes.
"""

import hmac
import json
import math
import re
import secrets
import sys
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np

from cascade_jax.data.case import LABEL_NAMES, CaseError
from cascade_jax.review import cases as review_cases
from cascade_jax.review.cases import Found, Insertions, OutOfDate
from cascade_jax.review.display import drawing_of, image_file, labels_of

ADDRESS = "127.0.0.1"
_BYTES = "application/octet-stream"
_TOKEN_BYTES = 32
_SECONDS = 30  # that a request may take to arrive
_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "review.js": ("review.js", "text/javascript; charset=utf-8"),
    "review.css": ("review.css", "text/css; charset=utf-8"),
    "niivue.js": ("niivue.js", "text/javascript; charset=utf-8"),
    "niivue.LICENSE.txt": ("niivue.LICENSE.txt", "text/plain; charset=utf-8"),
}
_OF_A_CASE = re.compile(r"cases/(\d{1,6})/(case|image\.nii|labels|prediction|measure|save)", re.ASCII)
_HEADERS = {
    # The viewer keeps its font in a data URI.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class ReviewServer(ThreadingHTTPServer):
    """Serves the page.

    Attributes:
        url: the page's address, with the token in it.
        saving: held while a correction is written.
    """

    def __init__(self, predictions: Path, cases: Sequence[Found], reader: str, port: int = 0):
        """Begins to listen.

        Args:
            predictions: the folder in which corrections are written.
            cases: in the order in which they are listed.
            reader: under whose name.
            port: on which; 0 takes a free one.

        Raises:
            OSError: the port is taken.
        """
        self.predictions, self.cases, self.reader = predictions, list(cases), reader
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        self.saving = threading.Lock()
        super().__init__((ADDRESS, port), _Handler)
        self.origins = {f"http://{name}:{self.server_port}" for name in (ADDRESS, "localhost")}
        self.url = f"http://{ADDRESS}:{self.server_port}/{self.token}/"

    def handle_error(self, request, client_address) -> None:
        """Says in a line what went wrong with a request; a browser that has gone away is no news."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"error: a request failed: {type(error).__name__}: {error}", file=sys.stderr)


class _Refused(Exception):
    """A request that is not answered, with the status that says why."""

    def __init__(self, status: HTTPStatus, reason: str):
        self.status, self.reason = status, reason
        super().__init__(reason)


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    server_version, sys_version = "cascade-jax", ""
    timeout = _SECONDS

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, *_) -> None:
        """Nothing: a line for every request would bury what a user is told."""

    def _answer(self, respond) -> None:
        try:
            name, query = self._authorised()
            kind, content = respond(name, query)
            status = HTTPStatus.OK
        except _Refused as refusal:
            status, kind, content = refusal.status, *_json({"error": refusal.reason})
        except OutOfDate as error:
            status, kind, content = HTTPStatus.CONFLICT, *_json({"error": str(error)})
        except CaseError as error:
            status, kind, content = HTTPStatus.UNPROCESSABLE_ENTITY, *_json({"error": str(error)})
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # of which the page has to hear, or its reader would believe that all is well
            print(f"error: {self.command} {self.path.split('/')[-1]}: {type(error).__name__}: {error}", file=sys.stderr)
            status, kind, content = HTTPStatus.INTERNAL_SERVER_ERROR, *_json({"error": f"failed: {error}"})
        self.send_response(status)
        for header, value in (_HEADERS | {"Content-Type": kind, "Content-Length": str(len(content))}).items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(content)

    def _authorised(self) -> tuple[str, dict[str, str]]:
        """The path behind the token, and what follows its question mark."""
        host = self.headers.get("Host", "")
        if f"http://{host}" not in self.server.origins:
            raise _Refused(HTTPStatus.FORBIDDEN, "this page has another address")
        if self.command == "POST" and self.headers.get("Origin") not in self.server.origins:
            raise _Refused(HTTPStatus.FORBIDDEN, "sent from another page")
        try:
            parts = urlsplit(self.path)
        except ValueError:
            raise _Refused(HTTPStatus.BAD_REQUEST, "that is no address") from None
        token, slash, name = parts.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()) or not slash:
            raise _Refused(HTTPStatus.FORBIDDEN, "the address lacks its token: open the one that the command printed")
        return name, {key: values[-1] for key, values in parse_qs(parts.query).items()}

    def _get(self, name: str, _: dict[str, str]) -> tuple[str, bytes]:
        if name in _FILES:
            file, kind = _FILES[name]
            return kind, resources.files(__package__).joinpath("static", file).read_bytes()
        if name == "cases":
            rows = review_cases.listed(self.server.predictions, self.server.cases)
            return _json({"reader": self.server.reader, "cases": rows})
        case, what = self._named(name)
        opened = review_cases.open_case(case)
        if what == "image.nii":
            return _BYTES, image_file(opened.case.image, opened.case.spacing)
        if what == "prediction":
            return _BYTES, drawing_of(opened.prediction)
        labels, correction, version = review_cases.labels_now(self.server.predictions, case, opened)
        if what == "labels":
            return _BYTES, drawing_of(labels)
        if what == "case":
            return _json(review_cases.described(opened, labels, correction, version))
        raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "nothing was sent")

    def _post(self, name: str, query: dict[str, str]) -> tuple[str, bytes]:
        case, what = self._named(name)
        if what not in ("measure", "save"):
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "nothing is to be sent there")
        opened = review_cases.open_case(case)
        labels = self._drawing(opened.prediction.shape)
        insertions = Insertions(_angle(query, "anterior"), _angle(query, "inferior"), query.get("dragged") == "yes")
        result = review_cases.measured_again(opened, labels, insertions.anterior)
        if what == "save":
            with self.server.saving:
                correction, version = review_cases.save(
                    self.server.predictions,
                    case,
                    opened,
                    labels,
                    insertions,
                    self.server.reader,
                    query.get("version", ""),
                )
            result |= {"corrected": str(correction), "version": version}
        return _json(result)

    def _named(self, name: str) -> tuple[Found, str]:
        found = _OF_A_CASE.fullmatch(name)
        if found is None or int(found[1]) >= len(self.server.cases):
            raise _Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        return self.server.cases[int(found[1])], found[2]

    def _drawing(self, shape: tuple[int, int, int]) -> np.ndarray:
        """What was sent, as labels; not a byte more is read than they have."""
        expected, length = int(np.prod(shape)), self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not re.fullmatch(r"\d{1,12}", length, re.ASCII):
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "the length of what is sent must be said")
        if int(length) > expected:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{length} bytes were sent for {expected} voxels")
        if int(length) < expected:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"{length} bytes were sent for {expected} voxels")
        content = self.rfile.read(expected)
        if len(content) < expected:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"only {len(content)} of {expected} bytes arrived")
        labels = labels_of(content, shape)
        if labels.max() >= len(LABEL_NAMES):
            raise _Refused(HTTPStatus.BAD_REQUEST, f"{labels.max()} is no label")
        return labels


def _json(values: dict) -> tuple[str, bytes]:
    return "application/json; charset=utf-8", json.dumps(values, allow_nan=False).encode()


def _angle(query: dict[str, str], name: str) -> float | None:
    """Degrees, 0 to 360, or None where they are not given."""
    if name not in query:
        return None
    try:
        value = float(query[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _Refused(HTTPStatus.BAD_REQUEST, f"{query[name][:20]!r} is no angle")
    return value % 360
