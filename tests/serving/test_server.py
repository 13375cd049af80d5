"""The port, the key, and the end of a service."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

pytest.importorskip("uvicorn", reason="the extra serve is not installed")

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
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_the_service_when_what_has_begun_is_done(number, tmp_path):
    command = [sys.executable, "-m", "internvideo_hf", "serve", "demo-mm", "--port", "0", "--jobs", "1"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        address = re.fullmatch(r"demo-mm answers at (\S+) \(embeddings, classify\); see \1/docs.\n", line)[1]
        answers = []

        def ask():
            answers.append(httpx.post(f"{address}/v1/embeddings", json={"input": [VIDEO] * 30}, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        while "internvideo_requests_in_progress 1.0" not in httpx.get(f"{address}/metrics", timeout=60).text:
            assert asking.is_alive(), "it was answered before the signal"
            time.sleep(0.01)
        process.send_signal(number)
        asking.join(60)
        assert process.wait(60) == 0
        assert answers[0].status_code == 200 and len(answers[0].json()["data"]) == 30
        assert "Traceback" not in process.stderr.read() and not list(tmp_path.glob("internvideo-*"))
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 1)
    finally:
        process.kill()
        process.communicate()
