"""A model's folder is published on a server that plays the Hub, and plain transformers loads it from there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from program import assert_refused, run
from repositories import Repositories, serve
from transformers import AutoModel

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.checkpoints.publishing import check_publishable, files_to_publish

LOAD = """
import sys
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("you/mm", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("you/mm", trust_remote_code=True)
model.save_pretrained(sys.argv[1])
print("loaded", type(processor).__name__)
"""
STATE = (
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "training_args.bin",
    "trainer_state.json",
    "events.out.tfevents.1",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(demo_path("demo-mm"), tmp_path / "mm")
    return tmp_path / "mm"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Serve repositories, and let this process and those that it starts take the server for the Hub."""
    from huggingface_hub import constants

    published = Repositories()
    with serve(published) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        settings = {"ENDPOINT": address, "TOKEN": "hf_you", "HOME": str(tmp_path / "home"), "HUB_DISABLE_XET": "1"}
        for name, value in settings.items():
            monkeypatch.setenv(f"HF_{name}", value)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield published


def test_a_folder_is_published_and_loads_from_there(hub, folder, tmp_path):
    from transformers import AutoModel, AutoProcessor

    AutoModel.from_pretrained(folder).save_pretrained(folder)
    AutoProcessor.from_pretrained(folder).save_pretrained(folder)
    for name in STATE:
        (folder / name).write_bytes(b"state")
    shutil.copytree(demo_path("demo-classifier"), folder / "checkpoint-3")
    done = run("push", folder, "you/mm", "--message", "The toy")
    assert done.returncode == 0, done.stderr
    left = {
        *STATE,
        "checkpoint-3",
        "SHA256SUMS",
        "log.jsonl",
        "log-mm_near.jsonl",
        "log-mm_stills.jsonl",
        "log-mm_actions.jsonl",
        "log-mm_locked.jsonl",
    }
    assert {line.split()[2] for line in done.stdout.splitlines() if line.startswith("left out")} == left
    kept = {file.name for file in folder.iterdir()} - left
    assert hub["you/mm"] == {name: (folder / name).read_bytes() for name in kept}
    assert f"Published {len(kept)} files" in done.stdout and "/you/mm/commit/" in done.stdout

    command = [sys.executable, "-c", LOAD, str(tmp_path / "again")]
    loaded = subprocess.run(command, capture_output=True, text=True, env=os.environ, stdin=subprocess.DEVNULL)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.splitlines()[-1] == "loaded InternVideoProcessor"
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_folder_that_others_could_not_load_is_published_with_its_loader(hub, tmp_path, monkeypatch):
    folder = shutil.copytree(demo_path("demo-classifier"), tmp_path / "cls")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert "internvideo_loader.py" not in before
    done = run("push", folder, "you/cls")
    assert done.returncode == 0 and "SHA256SUMS" in done.stdout, done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    published = hub["you/cls"]
    assert not {"SHA256SUMS", "log.jsonl"} & set(published)
    for name, auto_class in (("config.json", "AutoConfig"), ("video_preprocessor_config.json", "AutoVideoProcessor")):
        content = json.loads(published[name])
        assert auto_class in content.pop("auto_map") and content == json.loads(before[name])
    for name, content in published.items():
        (folder / name).write_bytes(content)
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    for name in ("internvideo_loader.py", "config.json"):
        if name == "config.json":
            ours, theirs = (json.loads((place / name).read_text()) for place in (folder, tmp_path / "saved"))
            assert ours["auto_map"].items() >= theirs["auto_map"].items()
        else:
            assert (folder / name).read_bytes() == (tmp_path / "saved" / name).read_bytes()


def test_a_hub_that_does_not_answer_is_named(folder, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_you")
    assert_refused(run("push", folder, "you/mm"), "The Hub at http://127.0.0.1:9 does not answer")


def test_a_branch_is_made_and_the_main_one_stays(hub, folder):
    assert run("push", folder, "you/mm").returncode == 0
    (folder / "recipe.yaml").write_text("of a test\n")
    for _ in range(2):  # the second time, the branch is there
        done = run("push", folder, "you/mm", "--revision", "tests/one")
        assert done.returncode == 0, done.stderr
    assert hub["you/mm@tests/one"]["recipe.yaml"] == b"of a test\n"
    assert hub["you/mm"]["recipe.yaml"] != b"of a test\n" and set(hub) == {"you/mm", "you/mm@tests/one"}


def test_a_pull_request_is_opened_for_a_repository_of_others(hub, folder):
    hub["others/mm"] = {"README.md": b"theirs"}
    hub.foreign.add("others/mm")
    refused = run("push", folder, "others/mm")
    assert_refused(refused, "does not let you write to others/mm (403)", "hf auth login")
    done = run("push", folder, "others/mm", "--create-pr")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("/others/mm/discussions/1")
    assert hub["others/mm"] == {"README.md": b"theirs"}
    assert hub["others/mm@refs/pr/1"]["README.md"] == (folder / "README.md").read_bytes()
    both = run("push", folder, "others/mm", "--create-pr", "--revision", "tests")
    assert_refused(both, "A pull request is for the main branch, not for tests: leave out --revision or --create-pr")


def test_a_repository_is_private_if_it_is_asked_for(hub, folder):
    for name, options in (("you/open", ()), ("you/mine", ("--private",))):
        assert run("push", folder, name, *options).returncode == 0
    expected = {"you/open": None, "you/mine": "private"}  # an organization may have private ones by default
    assert hub.visibility == expected and set(hub) == set(expected)
    assert run("push", folder, "you/open", "--private").returncode == 0
    assert hub.visibility == expected  # what is there stays as it is


def test_what_is_no_model_is_refused(hub, folder, tmp_path):
    def refused(*words: str, name: str = "you/mm") -> None:
        assert_refused(run("push", folder, name), *words)
        assert not hub

    refused("owner/name", name="mm")
    card = (folder / "README.md").read_text()
    (folder / "README.md").unlink()
    refused("has no card")
    (folder / "README.md").write_text("# A model without a head\n")
    refused("has no license")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    refused("has no tags")
    (folder / "README.md").write_text("---\nlicense: [\n---\n# A model\n")
    refused("not valid YAML")
    (folder / "README.md").write_text(card)
    (folder / "model.safetensors").unlink()
    refused("holds no model")
    shutil.rmtree(folder)
    refused("is not a folder")


def test_a_training_run_is_refused_and_its_model_named(tmp_path):
    shutil.copytree(demo_path("demo-mm"), tmp_path / "run/final")
    with pytest.raises(ValueError, match=r"run/final"):
        check_publishable(tmp_path / "run")


def test_parts_of_a_model_belong_to_it(folder):
    shutil.copytree(demo_path("demo-classifier"), folder / "encoder")
    (folder / "notes.pptx").write_bytes(b"")
    files, left_out = files_to_publish(folder)
    assert "encoder/model.safetensors" in files and "model.safetensors" in files
    assert left_out["notes.pptx"] == "no file of a model" and left_out["encoder/log.jsonl"] == "a log"
