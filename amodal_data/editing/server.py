"""The server of the editing page: this machine only, for whoever has the address with its token."""

import base64
import hmac
import json
import secrets
import socketserver
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from amodal_data.editing.session import EditingSession, StaleError
from amodal_data.errors import AmodalError, SelectionError

_HOST = "127.0.0.1"
_LARGEST_BODY = 2**20  # Bytes of a request
_TIMEOUT = 20  # Seconds that a connection may be silent
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_JSON = "application/json"
_POSTS = ("edit", "preview", "propose", "claim", "release")


class EditingServer(ThreadingHTTPServer):
    """Serves one session on the loopback address. port: 0 = a free one.

    One tab of a browser writes; others read, until they take over. Raises :class:`SelectionError` if the port is taken.
    """

    daemon_threads = True

    def __init__(self, session: EditingSession, port: int = 0) -> None:
        self.session, self.token = session, secrets.token_urlsafe(24)
        self._writer: str | None = None
        self._lock = threading.Lock()
        try:
            super().__init__((_HOST, port), _Handler)
        except OSError as error:
            fix = "choose another with --port, or leave it out for a free one"
            raise SelectionError(f"cannot use this port: {error.strerror}", place=f"{_HOST}:{port}", fix=fix) from error

    def server_bind(self) -> None:
        """Bind the address, without asking a name server who it is."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = _HOST, self.server_address[1]

    @property
    def hosts(self) -> set[str]:
        """The values of ``Host`` that are answered."""
        return {f"{name}:{self.server_port}" for name in (_HOST, "localhost")}

    @property
    def url(self) -> str:
        """The address of the page, with its token."""
        return f"http://{_HOST}:{self.server_port}/{self.token}/"

    def claim(self, tab: str, *, take: bool) -> bool:
        """May this tab write? The first one may, and one that takes over."""
        with self._lock:
            if take or self._writer is None:
                self._writer = tab
            return self._writer == tab

    def release(self, tab: str) -> None:
        """The tab is closed; another one may write."""
        with self._lock:
            self._writer = None if self._writer == tab else self._writer


class _RequestError(Exception):
    """A request that is refused: the status of the answer, and why."""

    def __init__(self, status: HTTPStatus, problem: str = "") -> None:
        super().__init__(problem)
        self.status, self.problem = status, problem or status.phrase


class _Handler(BaseHTTPRequestHandler):
    """Answers the page, its images and its JSON, and nothing else; no path of a client is ever opened."""

    server: EditingServer
    timeout = _TIMEOUT
    server_version, sys_version = "amodal-data", ""

    def do_GET(self) -> None:
        """Answer the page, an image, a thumbnail or an outline."""
        routes = {"": self._page, "image": self._image, "thumbnail": self._thumbnail, "outline": self._outline}
        self._answer(routes, set(_POSTS))

    def do_POST(self) -> None:
        """Take an edit, show or propose one, or say which tab writes."""
        self._answer({name: getattr(self, f"_{name}") for name in _POSTS}, {"", "image", "thumbnail", "outline"})

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing: addresses hold the token."""

    def _answer(self, routes: dict[str, Any], others: set[str]) -> None:
        try:
            name, *rest = self._path()
            if name not in routes:
                raise _RequestError(HTTPStatus.METHOD_NOT_ALLOWED if name in others else HTTPStatus.NOT_FOUND)
            routes[name](*rest)
        except _RequestError as error:
            self._send_json({"problem": error.problem}, error.status)
        except StaleError as error:
            self._send_json({"problem": error.message}, HTTPStatus.CONFLICT)
        except AmodalError as error:
            self._send_json({"problem": error.message}, HTTPStatus.BAD_REQUEST)
        except (IndexError, TypeError):
            self._send_json({"problem": "no such address"}, HTTPStatus.NOT_FOUND)
        except (BrokenPipeError, ConnectionError, TimeoutError):
            self.close_connection = True
        except OSError as error:
            self._send_json({"problem": f"not saved: {error.strerror or error}"}, HTTPStatus.INSUFFICIENT_STORAGE)

    def _path(self) -> list[str]:
        """The parts of the path behind the token. Raises :class:`_RequestError` for any other host, origin or token."""
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            raise _RequestError(HTTPStatus.FORBIDDEN, "another host")
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            raise _RequestError(HTTPStatus.FORBIDDEN, "another origin")
        start, token, *rest = [*self.path.split("?", 1)[0].split("/"), ""][:5]
        if start or not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise _RequestError(HTTPStatus.NOT_FOUND)
        return [part for n, part in enumerate(rest) if part or n == 0]

    def _page(self) -> None:
        page, policy = self.server.session.page()
        self._send(
            page.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": f"{policy}; frame-ancestors 'none'"}
        )

    def _image(self, number: str) -> None:
        self._send_json(self.server.session.document(_number(number)))

    def _thumbnail(self, number: str) -> None:
        uri = self.server.session.thumbnail(_number(number))
        self._send(base64.b64decode(uri.partition(",")[2]), "image/jpeg")

    def _outline(self, image: str, position: str) -> None:
        self._send_json(self.server.session.outline(_number(image), _number(position)))

    def _edit(self) -> None:
        body = self._body(tab=str, image=int, revision=int, edit=dict)
        if not self.server.claim(body["tab"], take=False):
            raise _RequestError(HTTPStatus.CONFLICT, "another tab edits this file")
        self._send_json(self.server.session.edit(body["image"], body["revision"], body["edit"]))

    def _preview(self) -> None:
        body = self._body(image=int, revision=int, edit=dict)
        self._send_json(self.server.session.preview(body["image"], body["revision"], body["edit"]))

    def _propose(self) -> None:
        body = self._body(image=int, instance=int)
        self._send_json(self.server.session.propose(body["image"], body["instance"]))

    def _claim(self) -> None:
        body = self._body(tab=str, take=bool)
        self._send_json({"writer": self.server.claim(body["tab"], take=body["take"])})

    def _release(self) -> None:
        self.server.release(self._body(tab=str)["tab"])
        self._send_json({})

    def _body(self, **types: type) -> dict[str, Any]:
        """The JSON object of a request with these fields. Raises :class:`_RequestError`, IndexError for image -1."""
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not (length.isascii() and length.isdigit()):
            raise _RequestError(HTTPStatus.LENGTH_REQUIRED)
        if len(length) > 9 or int(length) > _LARGEST_BODY:
            raise _RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if self.headers.get_content_type() != _JSON:
            raise _RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise _RequestError(HTTPStatus.BAD_REQUEST, "not JSON") from None
        if not isinstance(body, dict) or any(type(body.get(name)) is not kind for name, kind in types.items()):
            raise _RequestError(HTTPStatus.BAD_REQUEST, f"expected {', '.join(types)}")
        if "image" in types and body["image"] < 0:
            raise IndexError
        return body

    def _send_json(self, document: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(document).encode(), _JSON, status=status)

    def _send(
        self, content: bytes, kind: str, headers: dict[str, str] | None = None, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self.send_response(status)
        for name, value in {
            **_HEADERS,
            **(headers or {}),
            "Content-Type": kind,
            "Content-Length": str(len(content)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _number(text: str) -> int:
    """The number of an image in a path. Raises IndexError for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise IndexError
    return int(text)
