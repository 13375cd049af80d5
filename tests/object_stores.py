"""Object stores for tests: one in the memory of this process, and S3 as a server of moto in another."""

import contextlib
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import fsspec
import pytest

BUCKET = "clips"


def write(address: str, content: bytes) -> str:
    """Write an object, and return its address."""
    files, path = fsspec.url_to_fs(address)
    files.pipe_file(path, content)
    return address


def new_memory() -> str:
    """Return the address of a folder in memory that no other test uses."""
    return f"memory://{uuid.uuid4().hex}"


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """Run a server of S3, and give the address of an empty bucket in it; credentials come from the environment."""
    pytest.importorskip("s3fs", reason="s3fs opens S3")
    pytest.importorskip("moto.server", reason="moto serves S3")
    import s3fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "tester",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # whose clients have the environment of their first use
        try:
            _wait_for(port, server)
            s3fs.S3FileSystem().mkdir(BUCKET)
            yield f"s3://{BUCKET}"
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.kill()
            server.wait()


def _wait_for(port: int, server: subprocess.Popen) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("the server of S3 does not start")
