"""Who is answered: only requests with our host, our origin and the token; nobody else learns anything."""

import errno
import http.client
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import ResourceError, UsageError
from batchgen.review.server.request_guard import WRONG_LINK
from batchgen.review.server.review_session import ReviewSession
from batchgen.review.server.serve_review import ReviewServer, open_review
from tests.review.conftest import prepared, saved

MakeRun = Callable[..., Path]
Serve = Callable[..., ReviewServer]


def a_vote(**fields: object) -> str:
    """A vote about the first answer."""
    return json.dumps({"reviewer": "anna", "n": 0, "vote_id": "0" * 32} | fields)


ITEM = "/api/items/0?reviewer=anna"


def send(
    server: ReviewServer, path: str, method: str = "GET", body: str = "", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest(method, path, skip_host=True)
    named = {"host": f"127.0.0.1:{server.port}", "x-review-token": server.token} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    for name, value in named.items():
        if value:
            connection.putheader(name, value)
    connection.putheader("content-length", str(len(body.encode())))
    connection.endheaders(body.encode())
    response = connection.getresponse()
    found = response.status, response.read(), dict(response.getheaders())
    connection.close()
    return found


def test_requests_of_others_are_rejected_without_a_trace(answered: MakeRun, serve: Serve) -> None:
    folder = answered(prompts=["a secret question"])
    server = serve(prepared(folder))
    port = server.port
    assert b"a secret question" in send(server, ITEM)[1]
    assert send(server, ITEM, host=f"localhost:{port}")[0] == 200
    assert send(server, ITEM, origin=f"http://127.0.0.1:{port}")[0] == 200
    rejected = [
        {"host": f"example.org:{port}"},
        {"host": f"127.0.0.1:{port + 1}"},
        {"host": "127.0.0.1"},
        {"origin": "http://example.org"},
        {"origin": f"http://127.0.0.1:{port + 1}"},
        {"origin": f"http://localhost:{port}"},
        {"origin": f"https://127.0.0.1:{port}"},
        {"origin": "null"},
        {"x_review_token": ""},
        {"x_review_token": server.token[:-1]},
        {"x_review_token": server.token + "x"},
        {"x_review_token": "é"},
    ]
    vote = json.dumps({"reviewer": "anna", "n": 0, "vote_id": "0" * 32, "kind": "skip"})
    for headers in rejected:
        for path, method in (
            (ITEM, "GET"),
            ("/", "GET"),
            ("/nothing", "GET"),
            ("/api/votes", "POST"),
        ):
            status, body, found = send(server, path, method, vote, **headers)
            # A browser with an old link is told of the new one; other pages and other names get nothing.
            expected = WRONG_LINK.encode() if "x_review_token" in headers else b""
            assert (status, body) == (403, expected), (headers, path)
            assert "access-control-allow-origin" not in found
    status, body, _ = send(server, ITEM, host="")  # not HTTP/1.1
    assert status == 400
    assert b"secret" not in body
    assert saved(folder) == []


def test_the_token_may_be_in_the_address_and_the_page_has_no_answer(
    answered: MakeRun, serve: Serve
) -> None:
    server = serve(prepared(answered(prompts=["a secret question"])))
    assert server.url == f"http://127.0.0.1:{server.port}/?token={server.token}"
    status, body, headers = send(server, f"/?token={server.token}", x_review_token="")
    assert status == 200
    assert b"secret" not in body
    assert headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert send(server, f"/?token={server.token}")[0] == 403  # given twice


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "the request is not JSON"),
        ("[]", "expected an object"),
        ('{"reviewer": "../anna", "n": 0}', "reviewer: expected a name that can name a file"),
        ('{"reviewer": "anna", "n": -1}', "n: expected at least 0; vote_id: is missing; kind: is missing"),
        (a_vote(kind="like"), "kind: expected 'rating', 'pass', 'label'"),
        (a_vote(kind="edit"), "a vote of the kind edit needs edited_text"),
        (a_vote(kind="edit", edited_text=7), "edited_text: expected a text"),
        (a_vote(kind="edit", edited_text=["a"], place="c"), "place: expected 'a' or 'b'; edited_text: expected a text"),
        (a_vote(kind="edit", edited_text="x" * 1_000_001), "edited_text: longer than 1,000,000 characters"),
        (a_vote(kind="edit", text="x"), "text: is not a field of a vote"),
        (a_vote(kind="rating", value=4.5), "value: expected true or false; value: expected a whole number"),
        (a_vote(kind="skip", vote_id="7"), "vote_id: expected 32 hexadecimal digits"),
        ("x" * 4_300_000, "the request is not JSON"),
    ],
)  # fmt: skip
def test_requests_that_are_not_votes_change_nothing(
    answered: MakeRun, serve: Serve, body: str, problem: str
) -> None:
    folder = answered(prompts=["one"])
    server = serve(prepared(folder))
    status, found, _ = send(server, "/api/votes", "POST", body)
    answer = json.loads(found)
    assert (status, answer["code"]) == (400, "vote")
    assert problem in answer["error"]
    assert saved(folder) == []
    assert send(server, "/api/items/7?reviewer=anna")[0] == 400
    assert send(server, "/api/state?reviewer=a/b")[0] == 400
    assert send(server, "/nothing")[0] == 404


def test_a_port_in_use(answered: MakeRun) -> None:
    session = ReviewSession(prepared(answered(prompts=["one"])))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 is in use") as caught:
            open_review(session, port)
    assert "--port" in caught.value.hint


def test_the_server_listens_on_loopback_alone(answered: MakeRun, serve: Serve) -> None:
    server = serve(prepared(answered(prompts=["one"])))
    assert server.listener.getsockname()[0] == "127.0.0.1"


def test_a_folder_that_takes_no_votes(answered: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    session = ReviewSession(prepared(answered(prompts=["one"])))
    monkeypatch.setattr("batchgen.review.server.serve_review.os.access", lambda *_: False)
    with pytest.raises(ResourceError, match="is read-only for this user"):
        open_review(session, 0)


def test_a_copy_of_a_run_in_object_storage_takes_no_votes(
    answered: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "cache" / "runs" / "0123" / "out"
    shutil.copytree(answered(prompts=["one"]), copy)
    session = ReviewSession(prepared(copy))
    with pytest.raises(UsageError, match="takes no votes") as caught:
        open_review(session, 0)
    assert "--export" in caught.value.hint


def test_a_vote_that_cannot_be_written_is_not_acknowledged(
    answered: MakeRun, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = answered(prompts=["one"])
    server = serve(prepared(folder))
    body = json.dumps({"reviewer": "anna", "n": 0, "vote_id": "0" * 32, "kind": "skip"})
    with monkeypatch.context() as patched:
        patched.setattr("batchgen.feedback.votes_file.os.fsync", full)
        status, found, _ = send(server, "/api/votes", "POST", body)
        assert status == 503
        assert "No space left on device" in json.loads(found)["error"]
    assert saved(folder) == []
    assert server.session.counts() == {}
    assert send(server, "/api/votes", "POST", body)[0] == 200
    assert len(saved(folder)) == 1
