"""A server on this machine with the part of ModelScope's HTTP API that modelscope-hub uses to download a model."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/api/v1/models/"
NO_MODEL = {"Code": 10010205001, "Message": "模型不存在", "Success": False}


@dataclass
class ModelScopeServer:
    """One public model.

    Attributes:
        model_id: OWNER/NAME.
        revisions: files by revision, by path.
        cut: files of which each response ends in the middle.
        requests: method, path, and first byte of each request.
    """

    model_id: str
    revisions: Mapping[str, Mapping[str, bytes]]
    address: str = ""
    private: bool = False
    cut: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def files(self) -> list[tuple[str, int]]:
        """The files that were sent, with the first byte of each response."""
        found = ((parse_qs(urlsplit(p).query).get("FilePath"), n) for _, p, n in self.requests)
        return [(name[0], first) for name, first in found if name]


@contextmanager
def serve(server: ModelScopeServer) -> Iterator[ModelScopeServer]:
    """Answer requests until the block ends."""
    handler = type("Bound", (_Handler,), {"served": server})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    server.address = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: ModelScopeServer

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._record(0)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self._record(first)
        model_id, _, what = parts.path.removeprefix(API).partition(
            "/repo" if "/repo" in parts.path else "/revisions"
        )
        files = self.served.revisions.get(query.get("Revision", ""), None)
        if self.served.private:
            self._json(403, {"Code": 403, "Message": "access denied"})
        elif not parts.path.startswith(API) or model_id != self.served.model_id:
            self._json(404, NO_MODEL)
        elif parts.path.endswith("/revisions"):
            branches = [{"Revision": name, "CreatedAt": 0} for name in self.served.revisions]
            self._json(200, {"Code": 200, "Data": {"RevisionMap": {"Branches": branches}}})
        elif files is None:
            self._json(404, {"Code": 404, "Message": "revision not found"})
        elif what == "/files":
            listed = [_listed(name, body) for name, body in files.items()]
            self._json(200, {"Code": 200, "Data": {"Files": listed}, "Success": True})
        else:
            self._file(query["FilePath"], files[query["FilePath"]], first)

    def _record(self, first: int) -> None:
        self.served.requests.append((self.command, self.path, first))

    def _file(self, name: str, body: bytes, first: int) -> None:
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        rest = body[first:]
        self.wfile.write(rest[: len(rest) // 2] if name in self.served.cut else rest)

    def _json(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _listed(name: str, body: bytes) -> dict[str, object]:
    sha256 = hashlib.sha256(body).hexdigest()
    return {"Path": name, "Type": "blob", "Size": len(body), "Sha256": sha256}
