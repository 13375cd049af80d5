"""The port, the key, and the end of a service."""

import asyncio
import os
import re
import signal
import socket
import threading
import time

import forks
import httpx
import pytest

pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from fastapi import FastAPI  # noqa: E402
from serving.running import running  # noqa: E402

from internvideo_hf.serving import server  # noqa: E402
from internvideo_hf.serving.examples import VIDEO  # noqa: E402


def test_a_port_in_use_is_said():
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"Cannot listen on 127.0.0.1, port {port} .*in use.*--port or --host"):
            server.listen("127.0.0.1", port)
    server.listen("127.0.0.1", port).close()
    for host in ("192.0.2.1", "no such host"):
        with pytest.raises(OSError, match=f"Cannot listen on {host}, port 0"):
            server.listen(host, 0)


def test_only_a_local_service_without_a_key_has_names():
    assert server.names_of("127.0.0.1", None) == ["localhost", "127.0.0.1"]
    assert server.names_of("127.0.0.1", "key") is None and server.names_of("0.0.0.0", None) is None


def test_the_key_is_that_of_the_file_or_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(server.KEY_VARIABLE, raising=False)
    assert server.read_key(None) is None
    monkeypatch.setenv(server.KEY_VARIABLE, "of-environment")
    assert server.read_key(None) == "of-environment"
    (tmp_path / "key").write_text("of-file\n")
    assert server.read_key(tmp_path / "key") == "of-file"
    for wrong in ("", " \n", "two words", "schlüssel", "a\nb"):
        (tmp_path / "key").write_text(wrong)
        with pytest.raises(ValueError, match="expected one word"):
            server.read_key(tmp_path / "key")
    with pytest.raises(OSError, match="--key-file .*none cannot be read"):
        server.read_key(tmp_path / "none")


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_when_what_has_begun_is_done(number):
    app, begun, found = FastAPI(), threading.Event(), {}

    @app.get("/slow")
    async def slow() -> str:
        begun.set()
        while "refused" not in found:
            await asyncio.sleep(0.01)
        return "done"

    def ask() -> None:
        found["answer"] = httpx.get(f"{address}/slow", timeout=60)

    def signal_and_ask() -> None:
        assert begun.wait(60)
        os.kill(os.getpid(), number)
        for _ in range(500):
            try:
                socket.create_connection(taken.getsockname(), 5).close()
            except OSError:  # none of this test's, which begins no other
                break
            time.sleep(0.01)
        found["refused"] = True

    taken, before = server.listen("127.0.0.1", 0), signal.getsignal(number)
    address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    threads = [threading.Thread(target=work) for work in (ask, signal_and_ask)]
    with taken:
        server.run(app, taken, lambda: [thread.start() for thread in threads], 60)
    for thread in threads:
        thread.join(60)
    assert found["answer"].json() == "done" and signal.getsignal(number) is before


def test_a_connection_without_a_request_is_closed(monkeypatch):
    monkeypatch.setattr(server, "_PATIENCE", 0.3)
    monkeypatch.setattr(server, "_LOOK", 0.05)
    app = FastAPI()

    @app.get("/slow")
    async def slow() -> str:
        await asyncio.sleep(1)
        return "done"

    with running(app, http=server.Connection) as address:
        host = httpx.URL(address)
        for begin in (b"", b"GET /slow HT", b"GET /slow HTTP/1.1\r\nHost: a\r\n"):
            with socket.create_connection((host.host, host.port), 30) as waiting:
                waiting.sendall(begin)
                assert waiting.recv(1) == b""
        with httpx.Client(base_url=address) as client:
            for _ in range(3):
                assert client.get("/slow").json() == "done"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_when_what_has_begun_is_done(number, tmp_path):
    (tmp_path / "temporary").mkdir()
    environment = {"TMPDIR": str(tmp_path / "temporary")}
    command = ["serve", "demo-mm", "--port", "0", "--jobs", "1"]
    process = forks.start(forks.PROGRAM, *command, folder=tmp_path, environment=environment)
    try:
        while not (line := (tmp_path / "stdout").read_text() if (tmp_path / "stdout").exists() else "").endswith("\n"):
            assert process.is_alive(), "it does not serve"
            time.sleep(0.05)
        address = re.fullmatch(r"demo-mm answers at (\S+) \(embeddings, classify\); see \1/docs.\n", line)[1]
        answers = []

        def ask():
            answers.append(httpx.post(f"{address}/v1/embeddings", json={"input": [VIDEO] * 20}, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        while "internvideo_requests_in_progress 1.0" not in httpx.get(f"{address}/metrics", timeout=60).text:
            assert asking.is_alive(), "it was answered before the signal"
            time.sleep(0.01)
        os.kill(process.pid, number)
        asking.join(60)
        process.join(60)
        assert process.exitcode == 0
        assert answers[0].status_code == 200 and len(answers[0].json()["data"]) == 20
        assert "Traceback" not in (tmp_path / "stderr").read_text()
        assert not list((tmp_path / "temporary").glob("internvideo-*"))
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 1)
    finally:
        process.kill()
        process.join()
