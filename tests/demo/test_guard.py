"""The page's guard: names of hosts, and sizes of requests."""

import asyncio
import socket

import pytest

from internvideo_hf.demo import guard
from internvideo_hf.demo.guard import Guard, own_names


def answer(folder, names=("localhost",), kind="http", method="GET", path="/", **headers) -> int:
    """Return the status; 200 where the request is passed on."""
    sent = []

    async def passed(scope, receive, send):
        await send({"status": 200})

    async def send(event):
        sent.append(event)

    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": method, "path": path, "headers": lines}
    asyncio.run(Guard(passed, set(names), folder)(scope, None, send))
    return sent[0].get("status", sent[0].get("code"))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(
            ("localhost", 200),
            ("localhost:7860", 200),
            ("Localhost.", 200),
            ("192.168.1.7:80", 200),
            ("[fe80::1]", 200),
        ),
        *(("evil.example", 403), ("localhost.evil", 403), ("localhost@evil.example", 403), ("", 403), ("[::1", 403)),
        *(("evil.example#localhost", 403), ("127.0.0.1.evil", 403)),
    ],
)
def test_only_own_names_are_answered(tmp_path, host, status):
    assert answer(tmp_path, host=host) == status


def test_a_request_without_a_host_or_over_a_websocket(tmp_path):
    assert answer(tmp_path) == 403
    assert answer(tmp_path, kind="websocket", host="evil.example") == 1008
    assert answer(tmp_path, kind="websocket", host="localhost") == 200
    assert answer(tmp_path, kind="lifespan") == 200


def test_the_own_names_depend_on_where_the_page_listens():
    assert own_names("127.0.0.1", ["Movies.Example."]) == {"localhost", "127.0.0.1", "movies.example"}
    assert socket.gethostname().lower().rstrip(".") in own_names("0.0.0.0")


def test_sizes_are_bounded(tmp_path, monkeypatch):
    post = {"folder": tmp_path, "method": "POST", "host": "localhost"}
    assert answer(**post, content_length="100") == 200
    assert answer(**post) == answer(**post, content_length="-1") == 411
    assert answer(**post, content_length=str(2 << 20)) == 413
    upload = {**post, "path": "/gradio_api/upload"}
    assert answer(**upload, content_length=str(2 << 20)) == 200
    assert answer(**upload, content_length=str(2 << 30)) == 413
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "kept.mp4").write_bytes(bytes(1000))
    monkeypatch.setattr(guard, "MOST_UPLOADS", 1500)
    assert answer(**upload, content_length="500") == 200
    assert answer(**upload, content_length="501") == 507
