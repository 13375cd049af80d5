"""What is refused before the body is read, and what takes too long."""

import asyncio
import json

import pytest

pytest.importorskip("prometheus_client", reason="the extra serve is not installed")

from internvideo_hf.serving.guard import Guard  # noqa: E402
from internvideo_hf.serving.limits import Limits  # noqa: E402
from internvideo_hf.serving.metrics import Metrics  # noqa: E402


async def echo(scope, receive, send) -> None:
    """Answer with the body, which may say how long to wait."""
    body = (await receive())["body"]
    if body.startswith(b"wait"):
        await asyncio.sleep(float(body[4:]))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def ask(guard, path="/v1/embeddings", *, method="POST", body=b"a", length=True, **headers) -> tuple[int, dict]:
    """Send a request, and return status and body; a body of None never comes."""
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    named += [(b"content-length", str(len(body or b"a")).encode())] if length else []
    sent = []

    async def receive():
        if body is None:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    await guard({"type": "http", "path": path, "method": method, "headers": named}, receive, send)
    text = sent[1]["body"]
    return sent[0]["status"], json.loads(text) if text.startswith(b"{") else text.decode()


class Client:
    """A client that sends a body in pieces, and may go."""

    def __init__(self, *pieces: bytes | None):
        self.pieces, self.sent = list(pieces), []

    async def receive(self):
        """Return the next piece; None means that it has gone."""
        if not self.pieces:
            await asyncio.sleep(60)
        piece = self.pieces.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": any(self.pieces)}

    async def send(self, message):
        """Note what is sent, and how much of the request was not read by then."""
        self.sent.append((message, len(self.pieces)))

    async def ask(self, guard, **headers) -> None:
        """Send a request."""
        headers = {"content-length": "3", **headers}
        named = [(name.encode(), value.encode()) for name, value in headers.items()]
        await guard(
            {"type": "http", "path": "/v1/embeddings", "method": "POST", "headers": named}, self.receive, self.send
        )


def make(key=None, names=None, **limits) -> Guard:
    return Guard(echo, Limits(**limits), Metrics(), key, names, ["/v1/embeddings", "/health"])


def run(*calls) -> list:
    async def go():
        return await asyncio.gather(*calls)

    return asyncio.run(go())


def test_without_a_key_nobody_needs_one():
    assert run(ask(make()), ask(make(), "/metrics", method="GET")) == [(200, "a"), (200, "a")]


@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Bearer secretx", "Basic secret", "secret", "Bearer sécret"],
)
def test_a_wrong_key_is_refused(given):
    headers = {} if given is None else {"authorization": given}
    status, body = run(ask(make("secret"), **headers))[0]
    assert status == 401 and body["error"]["code"] == "wrong_key" and "secret" not in json.dumps(body)


def test_the_key_opens_everything_and_health_needs_none():
    guard = make("secret")
    right = {"authorization": "bearer secret"}
    found = run(ask(guard, **right), ask(guard, "/metrics", method="GET"), ask(guard, "/health", method="GET"))
    assert [status for status, _ in found] == [200, 401, 200]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("localhost:8000", 200), ("127.0.0.1:8000", 200), ("[::1]:8000", 200), ("LOCALHOST", 200)),
        *(("evil.org", 403), ("localhost.evil.org", 403), ("", 403), ("[", 403)),
    ],
)
def test_a_local_service_answers_to_its_own_names_only(host, status):
    assert run(ask(make(names=["localhost"]), host=host))[0][0] == status
    assert run(ask(make(), host=host))[0][0] == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost:8000", 200), ("https://evil.example", 403), ("http://localhost:9000", 403), ("null", 403)],
)
def test_a_local_service_answers_no_page_of_another_site(origin, status):
    guard = make(names=["localhost"])
    assert run(ask(guard, host="localhost:8000", origin=origin))[0][0] == status
    assert run(ask(make(), host="localhost:8000", origin=origin))[0][0] == 200  # with a key, which pages lack


def test_sizes_are_told_and_limited():
    guard = make(max_bytes=3)
    largest = Limits(max_bytes=3).max_body
    found = run(
        ask(guard, length=False),
        ask(guard, length=False, content_length="-1"),
        ask(guard, length=False, content_length="1" * 5000),
        ask(guard, length=False, content_length="1", transfer_encoding="chunked"),
        ask(guard, length=False, content_length=str(largest + 1)),
        ask(guard, length=False, content_length=str(largest)),
    )
    assert [status for status, _ in found] == [411, 411, 411, 411, 413, 200]


def test_more_requests_than_the_queue_takes_are_told_to_come_again():
    guard = make(max_queue=2)
    waiting = [ask(guard, body=b"wait0.2") for _ in range(4)]
    found = run(*waiting, ask(guard, "/health", method="GET"))
    assert [status for status, _ in found] == [200, 200, 429, 429, 200]
    assert run(ask(guard))[0][0] == 200, "the queue is empty again"


def test_the_bodies_of_all_requests_have_a_limit_together():
    guard, limits = make(max_bytes=3), Limits(max_bytes=3)
    large = {"length": False, "content_length": str(limits.max_body)}
    found = run(*(ask(guard, body=b"wait0.2", **large) for _ in range(5)))
    assert [status for status, _ in found] == [200] * 4 + [429]


def test_a_request_that_takes_or_comes_too_long_is_ended():
    guard = make(timeout=0.2)
    late, unsent = run(ask(guard, body=b"wait5"), ask(guard, body=None))
    assert late[0] == 504 and late[1]["error"]["message"].startswith("The request took longer than 0.2 seconds.")
    assert unsent[0] == 408 and run(ask(guard))[0][0] == 200


def test_the_work_of_a_client_that_goes_is_ended():
    ended = []

    async def work(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    metrics = Metrics()
    client = Client(b"a", b"b", None)
    run(client.ask(Guard(work, Limits(), metrics, endpoints=["/v1/embeddings"])))
    assert ended and not client.sent
    assert 'internvideo_requests_total{endpoint="/v1/embeddings",status="499"} 1.0' in metrics.text().decode()
    assert "internvideo_requests_in_progress 0.0" in metrics.text().decode()


def test_a_failure_of_the_application_is_not_lost():
    async def fail(scope, receive, send):
        raise KeyError("a")

    with pytest.raises(KeyError):
        run(Client(b"a").ask(Guard(fail, Limits(), Metrics())))


def test_a_refused_request_is_taken_before_the_connection_closes():
    client = Client(b"a", b"b", b"c")
    run(client.ask(make("secret")))
    assert [(m["type"], m.get("more_body"), left) for m, left in client.sent] == [
        ("http.response.start", None, 3),
        ("http.response.body", True, 3),  # the client has the answer, and may stop
        ("http.response.body", None, 0),
    ]
    headers = dict(client.sent[0][0]["headers"])
    assert int(headers[b"content-length"]) == len(client.sent[1][0]["body"]) and headers[b"connection"] == b"close"
    client = Client(b"a", None, b"c")
    run(client.ask(make("secret")))
    assert client.pieces == [b"c"] and client.sent[0][0]["status"] == 401


def test_a_refusal_that_time_mends_says_when():
    guard = make(max_queue=1)
    clients = [Client(b"wait0.2"), Client(b"a")]
    run(*(client.ask(guard) for client in clients))
    (start, _), *_ = clients[1].sent
    assert start["status"] == 429 and dict(start["headers"])[b"retry-after"] == b"1"


def test_requests_are_counted_by_known_paths():
    metrics = Metrics()
    guard = Guard(echo, Limits(), metrics, "secret", None, ["/v1/embeddings"])
    run(ask(guard, authorization="Bearer secret"), ask(guard), ask(guard, "/v1/anything/else"))
    text = metrics.text().decode()
    for endpoint, status in (("/v1/embeddings", 200), ("/v1/embeddings", 401), ("other", 401)):
        assert f'internvideo_requests_total{{endpoint="{endpoint}",status="{status}"}} 1.0' in text
    assert "internvideo_requests_in_progress 0.0" in text


def test_other_protocols_are_closed():
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(make()({"type": "websocket"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
