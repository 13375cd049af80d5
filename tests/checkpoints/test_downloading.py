"""Downloads of released files from a server that plays the Hub."""

import pytest
from checkpoints.hub import Hub, serve, use
from huggingface_hub import constants

from internvideo_hf import CheckpointError
from internvideo_hf.checkpoints.downloading import download

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with serve(Hub(CONTENT)) as hub:
        use(hub, monkeypatch, tmp_path)
        yield hub


def row(file="model.ckpt", address=None, note=""):
    return {"name": "A Model", "file": file, "address": address, "note": note}


def test_a_file_is_found_by_its_name_in_a_repository(hub, tmp_path):
    file = download(row(address="https://nowhere.invalid/model.ckpt"), tmp_path / "downloads")
    assert file.read_bytes() == CONTENT and file.is_relative_to(tmp_path / "hub") and file.name == "model.ckpt"
    assert ("GET", "/api/models/OpenGVLab/InternVideo1.0", None) in hub.asked
    count = len([entry for entry in hub.asked if entry[0] == "GET" and "resolve" in entry[1]])
    assert download(row(), tmp_path) == file
    assert len([entry for entry in hub.asked if entry[0] == "GET" and "resolve" in entry[1]]) == count == 1


def test_a_file_that_is_not_on_the_hub_comes_from_its_address_although_that_breaks_off(hub, tmp_path):
    hub.cut = 1000
    file = download(row("direct.ckpt", f"{hub.address}/direct.ckpt"), tmp_path / "downloads")
    assert file == tmp_path / "downloads/direct.ckpt" and file.read_bytes() == CONTENT
    assert len([entry for entry in hub.asked if entry[1] == "/direct.ckpt"]) == 2


def test_a_part_of_an_earlier_run_is_not_downloaded_again(hub, tmp_path):
    (tmp_path / "direct.ckpt.part").write_bytes(CONTENT[:5000])
    file = download(row("direct.ckpt", f"{hub.address}/direct.ckpt"), tmp_path)
    assert file.read_bytes() == CONTENT and [path.name for path in tmp_path.glob("*.ckpt*")] == ["direct.ckpt"]
    assert [entry[2] for entry in hub.asked if entry[1] == "/direct.ckpt"] == ["bytes=5000-"]


def test_other_bytes_than_the_hub_states_are_refused_and_deleted(hub, tmp_path):
    hub.sha256 = "0" * 64
    with pytest.raises(CheckpointError, match="model.ckpt arrived with other bytes.*expected 000000000000.*again"):
        download(row(), tmp_path)
    assert not [path for path in (tmp_path / "hub").rglob("*") if path.is_file() and path.stat().st_size > 1000]


def test_a_gated_repository_says_where_to_agree(hub, tmp_path):
    hub.status = 403
    with pytest.raises(CheckpointError, match="asks for consent.*https://huggingface.co/OpenGVLab.*hf auth login"):
        download(row(), tmp_path)


def test_all_that_was_tried_is_said(hub, tmp_path):
    hub.name = None
    gone = f"{hub.address}/gone/model.ckpt"
    with pytest.raises(CheckpointError) as error:
        download(row(address=gone, note="the original address no longer answers"), tmp_path)
    words = str(error.value)
    assert "InternVideo1.0 on the Hub has no model.ckpt" in words and f"{gone} answers with the error 404" in words
    assert "Known about it: the original address no longer answers." in words
    assert 'internvideo released "A Model" --from FILE' in words
    with pytest.raises(CheckpointError, match="https://drive.example/view is a page"):
        download(row(address="https://drive.example/view"), tmp_path)
    with pytest.raises(CheckpointError, match="no address is known"):
        download(row("checkpoint.pth"), tmp_path)


def test_offline_is_said_at_once(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set.*--from FILE"):
        download(row(address=f"{hub.address}/model.ckpt"), tmp_path)
    assert not hub.asked


def test_a_server_that_is_down_is_no_traceback(tmp_path, monkeypatch):
    with serve(Hub(CONTENT)) as hub:
        use(hub, monkeypatch, tmp_path)
    with pytest.raises(CheckpointError, match="InternVideo1.0 does not answer"):
        download(row(), tmp_path)
