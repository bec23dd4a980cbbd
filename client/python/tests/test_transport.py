"""What a client does when a server is slow, busy or gone for a moment: against sockets that behave so."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import gristmill
from gristmill import Client


class Answers:
    """A server that gives these answers one after the other, and then the last one again."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes] | None) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.asked.append((self.command, self.path, dict(self.headers), body))
                answer = answers[min(len(outer.asked), len(answers)) - 1]
                if answer is None:
                    # Gone without a word.
                    self.close_connection = True
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()


Serve = Callable[..., Answers]
WHO = {"name": "me", "role": "admin", "namespaces": ["*"], "anonymous": False, "later": 1}


@pytest.fixture
def serve() -> Iterator[Serve]:
    started: list[Answers] = []

    def start(*answers: tuple[int, dict[str, str], bytes] | None) -> Answers:
        started.append(Answers(*answers))
        return started[-1]

    yield start
    for one in started:
        one.end()


def plain(value: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {"content-type": "application/json"}, json.dumps(value).encode()


def busy(status: int = 503) -> tuple[int, dict[str, str], bytes]:
    return status, {"retry-after": "0"}, json.dumps({"error": {"code": "unavailable", "message": "busy"}}).encode()


def test_what_may_be_repeated_is(serve: Serve) -> None:
    server = serve(busy(), None, busy(504), plain(WHO))
    with Client(server.url, token="gmt_x_y") as client:
        assert client.whoami().name == "me"
    assert len(server.asked) == 4
    assert {headers["authorization"] for _, _, headers, _ in server.asked} == {"Bearer gmt_x_y"}


def test_a_submission_is_repeated_under_one_key(serve: Serve) -> None:
    server = serve(None, busy(), plain({"run": "run-" + "1" * 32, "created": False}))
    with Client(server.url) as client:
        run = client.submit("name: x")
    assert (run.id, run.created) == ("run-" + "1" * 32, False)
    assert len({json.loads(body)["key"] for _, _, _, body in server.asked}) == 1


def test_what_may_not_be_repeated_is_not(serve: Serve) -> None:
    server = serve(busy())
    with Client(server.url) as client, pytest.raises(gristmill.UnavailableError, match="busy"):
        client.models.promote("m", 3)
    assert len(server.asked) == 1


def test_repeating_has_an_end(serve: Serve) -> None:
    server = serve(busy())
    with Client(server.url) as client, pytest.raises(gristmill.UnavailableError, match="busy"):
        client.whoami()
    assert len(server.asked) == 5


def test_a_refusal_is_not_repeated(serve: Serve) -> None:
    complaint = {
        "severity": "error",
        "line": 3,
        "column": 8,
        "message": "unknown key `nop`",
        "hint": "did you mean `noop`?",
    }
    error = {"code": "bad_pipeline", "message": "the pipeline has a mistake", "hint": "look", "complaints": [complaint]}
    server = serve((422, {}, json.dumps({"error": error}).encode()))
    with Client(server.url) as client, pytest.raises(gristmill.BadPipelineError) as caught:
        client.submit("name: x")
    assert len(server.asked) == 1
    assert str(caught.value) == (
        "the pipeline has a mistake\n  line 3, column 8: unknown key `nop` (hint: did you mean `noop`?)\nhint: look"
    )


def test_answers_of_others_are_errors_too(serve: Serve) -> None:
    cases = [(401, gristmill.DeniedError), (404, gristmill.NotFoundError), (500, gristmill.InternalError)]
    for status, kind in cases:
        server = serve((status, {}, b"<html>no</html>"))
        with Client(server.url) as client, pytest.raises(kind, match=f"answered {status}"):
            client.whoami()
    server = serve((200, {}, b"<html>"))
    with Client(server.url) as client, pytest.raises(gristmill.InternalError, match="no JSON"):
        client.whoami()


def test_pages_are_followed(serve: Serve) -> None:
    def item(at: int) -> dict[str, object]:
        run = f"run-{at:032x}"
        return {"run": run, "pipeline": "p", "namespace": "default", "status": "succeeded", "created_ms": at}

    server = serve(
        plain({"items": [item(1), item(2)], "next": "a/b"}),
        plain({"items": [], "next": "c"}),
        plain({"items": [item(3)], "next": None}),
    )
    with Client(server.url) as client:
        assert [run.created_ms for run in client.runs(limit=None)] == [1, 2, 3]
    assert [path for _, path, _, _ in server.asked] == [
        "/v1/runs?limit=200", "/v1/runs?limit=200&cursor=a%2Fb", "/v1/runs?limit=200&cursor=c",
    ]  # fmt: skip


def test_a_broken_stream_is_taken_up_again(serve: Serve) -> None:
    def view(status: str, position: int) -> bytes:
        run = {"run": "r", "pipeline": "p", "namespace": "d", "status": status, "created_ms": 0, "steps": []}
        return f"event: run\nid: {position}\ndata: {json.dumps({**run, 'position': position})}\n\n".encode()

    stream = {"content-type": "text/event-stream"}
    server = serve(
        (200, stream, view("running", 1) + b": alive\n\n"),
        busy(),
        (200, stream, view("running", 2) + view("succeeded", 3)),
    )
    with Client(server.url) as client:
        assert [view.position for view in client.run("r").events(timeout=60)] == [1, 2, 3]
