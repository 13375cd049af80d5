"""Addresses at which no Ray cluster is are refused at once."""

import socket
import threading

import pytest
from program import assert_refused, run

pytest.importorskip("ray")
from internvideo_hf.data.executors import cluster


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def web_page():
    """Serve what no cluster would answer, and return the address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.mark.timeout(60)
def test_where_nothing_listens_there_is_no_cluster(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionError, match=f"no Ray cluster answers at {address} "):
        cluster.RayEngine(address)
    (tmp_path / "a.mp4").touch()
    refused = run("scan", tmp_path, "--engine", "ray", "--address", address)
    assert_refused(refused, f"--address {address}: no Ray cluster answers")
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_server_that_is_silent_counts_as_none(monkeypatch):
    monkeypatch.setattr(cluster, "_ANSWER", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(ConnectionError, match="no Ray cluster answers"):
            cluster.check_address(f"ray://127.0.0.1:{server.getsockname()[1]}")


def test_the_port_of_another_server_is_told(web_page):
    with pytest.raises(ConnectionError, match="is no Ray cluster"):
        cluster.check_address(web_page)


@pytest.mark.parametrize("address", ["head", "head:port", ":6379", "ray://head"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match='expected "auto" or HOST:PORT'):
        cluster.check_address(address)


def test_a_machine_without_a_cluster_is_told(monkeypatch):
    from ray._private import services

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: None)
    with pytest.raises(ConnectionError, match="belongs to no Ray cluster"):
        cluster.check_address("auto")
