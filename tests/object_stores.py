"""Object stores for tests: one in the memory of this process, and servers in others, for S3 moto's."""

import base64
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
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

    port = _free_port()
    command = [sys.executable, "-c", f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"]
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "tester",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with _serving(command, port, environment, s3fs.S3FileSystem):
        s3fs.S3FileSystem().mkdir(BUCKET)
        yield f"s3://{BUCKET}"


@contextlib.contextmanager
def gs() -> Iterator[str]:
    """Run a server of Google Cloud Storage, and give the address of an empty bucket in it."""
    gcsfs = pytest.importorskip("gcsfs", reason="gcsfs opens gs://")
    pytest.importorskip("gcp_storage_emulator", reason="gcp-storage-emulator serves gs://")
    port = _free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--in-memory", "--default-bucket", BUCKET]
    with _serving(command, port, {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}, gcsfs.GCSFileSystem):
        yield f"gs://{BUCKET}"


@contextlib.contextmanager
def az() -> Iterator[str]:
    """Run a server of Azure's blobs, Azurite of npm, and give the address of an empty container in it."""
    adlfs = pytest.importorskip("adlfs", reason="adlfs opens az://")
    if (program := shutil.which("azurite-blob")) is None:
        pytest.skip("azurite-blob (npm install azurite) serves az://")
    port = _free_port()
    account = "AccountName=devstoreaccount1;AccountKey=" + base64.b64encode(b"tester" * 4).decode()
    connection = f"DefaultEndpointsProtocol=http;{account};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
    environment = {
        "AZURE_STORAGE_CONNECTION_STRING": connection,
        "AZURITE_ACCOUNTS": f"devstoreaccount1:{base64.b64encode(b'tester' * 4).decode()}",
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [program, "--blobPort", str(port), "--location", folder, "--silent", "--skipApiVersionCheck"]
        command.append("--disableTelemetry")
        with _serving(command, port, environment, adlfs.AzureBlobFileSystem):
            adlfs.AzureBlobFileSystem(connection_string=connection).mkdir(BUCKET)
            yield f"az://{BUCKET}"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def _serving(command: list[str], port: int, environment: dict[str, str], files: type) -> Iterator[None]:
    """Run a server, with the environment of its clients."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        files.clear_instance_cache()  # whose clients have the environment of their first use
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(port, server)
            yield
        finally:
            files.clear_instance_cache()
            server.kill()
            server.wait()


def _wait_for(port: int, server: subprocess.Popen) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("the server does not start")
