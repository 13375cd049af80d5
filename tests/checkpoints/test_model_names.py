"""Names of models: folders first, then toy models, released models, the Hub."""

import json

import pytest
import torch
from checkpoints.hub import Hub, serve, use
from transformers import AutoModel
from typer.testing import CliRunner

import internvideo_hf
from internvideo_hf import CheckpointError, VideoIndex
from internvideo_hf.checkpoints import model_names
from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.cli.app import app

NAME = "InternVideo-MM-B-16"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERNVIDEO_CACHE", str(tmp_path / "ours"))
    return tmp_path / "ours"


@pytest.fixture
def tiny(settings, monkeypatch):
    """Let the row of a released model have the configuration of a tiny file."""
    row = next(row for row in released_rows() if row["name"] == NAME)
    monkeypatch.setitem(row, "config", settings)
    return NAME


def test_a_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_names.resolve_model("demo-mm") == str(internvideo_hf.demo_path("demo-mm"))
    (tmp_path / "demo-mm").mkdir()
    assert model_names.resolve_model("demo-mm") == "demo-mm"
    assert model_names.resolve_model("owner/model") == "owner/model"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("InternVideo-MM-L14", "No model 'InternVideo-MM-L14'.*Did you mean InternVideo-MM-L-14"),
        ("./run/final", "No model './run/final'. Expected a folder that"),
        ("a/b/c", "No model 'a/b/c'. Expected"),
        ("x.ckpt", "x.ckpt is a file, expected a model's folder.*internvideo convert x.ckpt FOLDER"),
    ],
)
def test_other_names_are_refused_without_asking_the_hub(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.ckpt").write_text("x")
    with pytest.raises(ValueError, match=message):
        model_names.resolve_model(name)


def test_every_released_name_has_one_row_and_folder():
    rows = released_rows()
    assert all(model_names.released_row(row["name"].upper()) is row for row in rows)
    assert len({model_names.converted_folder(row) for row in rows}) == len(rows)
    with pytest.raises(ValueError, match="No released model 'viclip'.*internvideo released"):
        internvideo_hf.released("viclip")


def test_a_name_downloads_converts_and_answers_and_the_second_time_needs_no_network(case, tiny, tmp_path, monkeypatch):
    with serve(Hub((case / "checkpoint.ckpt").read_bytes(), name="InternVideo-MM-B-16.ckpt")) as hub:
        use(hub, monkeypatch, tmp_path)
        folder = internvideo_hf.released(tiny)
    assert folder == tmp_path / "ours/converted-3/internvideo-mm-b-16"
    assert internvideo_hf.released("internvideo-mm-b-16") == folder  # nobody answers any more
    card = (folder / "README.md").read_text()
    assert card.count(NAME) >= 1 and "one of the released files" not in card
    index = VideoIndex(tiny)
    assert torch.equal(index.encoder.model.logit_scale, AutoModel.from_pretrained(folder).logit_scale)


def test_a_file_at_hand_takes_the_place_of_the_download(case, tiny, cache):
    run = CliRunner().invoke(app, ["released", tiny, "--from", str(case / "checkpoint.ckpt")])
    assert run.exit_code == 0, run.output
    assert run.stdout.strip().endswith("internvideo-mm-b-16") and (cache / "converted-3").is_dir()
    listed = CliRunner().invoke(app, ["released", "--family", "internvideo_mm"]).stdout.splitlines()
    assert listed[0].split()[:3] == [NAME, "internvideo_mm", "converted"] and len(listed) > 8


def test_the_file_of_another_model_is_refused(case, cache):
    with pytest.raises(CheckpointError, match="a model of internvideo_mm, and ViCLIP-L-14 WebVid-10M is of viclip"):
        internvideo_hf.released("ViCLIP-L-14 WebVid-10M", case / "checkpoint.ckpt")
    assert not list(cache.rglob("config.json"))


def test_the_list_is_data(cache):
    run = CliRunner().invoke(app, ["released", "--json", "--family", "viclip"])
    entries = json.loads(run.stdout)
    assert {entry["family"] for entry in entries} == {"viclip"}
    assert set(entries[0]) == {"name", "family", "file", "address", "licence", "note", "test"}
    unknown = CliRunner().invoke(app, ["released", "--family", "viclop"])
    assert "Did you mean viclip" in str(unknown.exception)
    assert "--from needs the name" in str(CliRunner().invoke(app, ["released", "--from", "x"]).exception)


def test_a_file_that_is_refused_leaves_nothing_in_the_cache(cache, tmp_path):
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError):
        internvideo_hf.released(NAME, tmp_path / "bad.ckpt")
    assert not [file for file in cache.rglob("*") if file.is_file()]
