"""`internvideo index` and `search`: what they print and write, and their exit codes."""

import json
import os
import re
import shutil
import socket

import numpy as np
import pytest
from PIL import Image
from program import assert_refused, run
from search.gallery import COLORS, gallery, picture

from internvideo_hf.search import index as index_module
from internvideo_hf.utils.locks import lock_folder


@pytest.fixture(scope="module")
def made(small_folder, tmp_path_factory):
    """Return a gallery and its index, made by the program, that no test changes."""
    folder = tmp_path_factory.mktemp("program")
    gallery(folder / "videos")
    (folder / "videos/bad.mp4").write_text("no video")
    options = ("--model", small_folder, "--window", "1s", "--jobs", 1)
    result = run("index", folder / "videos", "--out", folder / "index", *options)
    assert result.returncode == 1, result.stderr
    assert "4 videos in 7 clips (4 new)" in result.stdout
    assert "bad.mp4" in result.stderr.split("1 of 5 failed:")[1] and "Indexing" in result.stderr
    return folder


def test_index_again_embeds_nothing_and_knows_its_model(made):
    result = run("index", made / "videos", "--out", made / "index", "--jobs", 1)
    assert result.returncode == 1 and "4 unchanged" in result.stdout
    (made / "alone").mkdir()
    shutil.copy(made / "videos/red.mp4", made / "alone/red.mp4")
    quiet = run("index", made / "alone", "--out", made / "copy", "--model", made / "none", "-q")
    assert_refused(quiet, "none", "internvideo convert")


def test_search_says_that_nothing_matches(made):
    result = run("search", made / "index", "a dog catches a frisbee", "--top-k", 3)
    assert result.returncode == 0, result.stderr
    first, *lines = result.stdout.splitlines()
    assert first.startswith("Nothing here matches: the nearest of 7 clips") and "one search in twenty" in first
    headings, *hits = lines[:4]
    assert headings.split() == ["cosine", "z", "above", "choice", "time", "video"] and result.stderr == ""
    # Numbers stand below the ends of their headings.
    for name, pattern in (
        ("cosine", r"-?\d\.\d{3}"),
        ("z", r"[+-]\d+\.\d"),
        ("above", r"\d+%"),
        ("choice", r"\d+\.\d%"),
    ):
        end = headings.index(name) + len(name)
        assert all(re.search(rf" {pattern}$", hit[:end]) for hit in hits)
    assert all(str(made / "videos") in hit for hit in hits)
    assert [line.split(":")[0] for line in lines[4:]] == ["cosine", "z", "above", "choice"]


def test_search_marks_what_matches(made, monkeypatch):
    embed = index_module.Embedder.embed_texts

    def of_a_video_if_one(self, texts):
        return self.embed_video(texts[0]) if len(texts) == 1 else embed(self, texts)

    monkeypatch.setattr(index_module.Embedder, "embed_texts", of_a_video_if_one)
    result = run("search", made / "index", str(made / "videos/red.mp4"), "--top-k", 2, "--per-video", 1)
    assert result.returncode == 0 and "Nothing" not in result.stdout
    _, line, _, verdict, *_ = result.stdout.splitlines()
    assert line.startswith("*") and "red.mp4" in line and " 1.000 " in line and " 100% " in line
    assert verdict.startswith("* matches: by chance fewer than one search in twenty")


def test_search_speaks_json(made):
    result = run("search", made / "index", "--json", "--top-k", 2, "--image", save(made / "green.png", "green"))
    answer = json.loads(result.stdout)
    assert answer["matches"] is None and answer["clips"] == 7 and len(answer["hits"]) == 2
    best = answer["hits"][0]
    assert best["video"].endswith(("green.mp4", "two.mp4")) and best["end"] - best["start"] >= 1
    by_text = json.loads(run("search", made / "index", "green", "--json").stdout)
    assert by_text["query"] == "green" and by_text["matches"] is False
    assert set(by_text["hits"][0]) == {
        *("video", "start", "end", "similarity", "probability", "z", "share", "chance", "matches")
    }


def test_an_index_in_a_store_is_made_and_searched_by_its_address(made, tmp_path):
    pytest.importorskip("lancedb")
    model = json.loads((made / "index/index.json").read_text())["model"]
    address = f"lance:{tmp_path / 'index'}"
    options = ("--model", model, "--window", "1s", "--jobs", 1)
    result = run("index", made / "videos/red.mp4", "--store", address, *options)
    assert result.returncode == 0 and f"{address}: 1 videos in 1 clips (1 new)" in result.stdout, result.stderr
    assert "1 unchanged" in run("index", made / "videos/red.mp4", "--store", address, "--jobs", 1).stdout
    found, expected = (
        json.loads(run("search", where, "--video", made / "videos/red.mp4", "--top-k", 1, "--json").stdout)["hits"][0]
        for where in (address, made / "index")
    )
    assert found["video"] == expected["video"] and found["similarity"] == pytest.approx(1, abs=1e-5)
    assert_refused(run("index", made / "videos", "--store", address, "--window", "2s"), "--window 1.0", "--store")


def test_columns_of_a_list_choose_the_clips_to_search(made, tmp_path):
    model = json.loads((made / "index/index.json").read_text())["model"]
    rows = ("video,camera", "red.mp4,door", "green.mp4,yard", "two.mp4,yard")
    (tmp_path / "list.csv").write_text("\n".join(rows).replace("\n", f"\n{made / 'videos'}/") + "\n")
    options = ("--out", tmp_path / "index", "--jobs", 1)
    result = run("index", tmp_path / "list.csv", *options, "--model", model, "--window", "1s")
    assert result.returncode == 0, result.stderr
    search = ("search", tmp_path / "index", "something red", "--top-k", 9, "--json", "--where")
    found = json.loads(run(*search, "camera = 'yard' and start >= 1").stdout)
    assert found["clips"] == 3 and {hit["start"] for hit in found["hits"]} == {1, 2, 3}
    assert json.loads(run(*search, "camera = 'attic'").stdout)["hits"] == []
    assert "no clip for which this holds" in run(*search[:5], "--where", "start > 99").stdout
    assert_refused(run(*search, "camra = 'yard'"), "--where", "character 1 ", "Did you mean camera")
    (tmp_path / "list.csv").write_text((tmp_path / "list.csv").read_text().replace("door", "attic"))
    assert "3 unchanged" in run("index", tmp_path / "list.csv", *options).stdout
    assert json.loads(run(*search, "camera = 'attic'").stdout)["clips"] == 1


def test_near_copies_are_listed(made, tmp_path):
    model = json.loads((made / "index/index.json").read_text())["model"]
    shutil.copytree(made / "videos", tmp_path / "videos", ignore=shutil.ignore_patterns("bad.mp4"))
    shutil.copy(tmp_path / "videos/red.mp4", tmp_path / "videos/again.mp4")
    assert run("index", tmp_path / "videos", "--out", tmp_path / "i", "--model", model, "--jobs", 1).returncode == 0
    assert_refused(run("dedup", tmp_path / "i", "-q"), "5 videos", "--threshold")
    copies = json.loads(run("dedup", tmp_path / "i", "--threshold", "0.99999", "--json", "-q").stdout)
    names = {copy["video"] for copy in copies["groups"][0]}
    assert {str(tmp_path / "videos/again.mp4"), str(tmp_path / "videos/red.mp4")} <= names
    lines = run("dedup", tmp_path / "i", "--threshold", "0.99999").stdout.splitlines()
    assert lines[0] == "1." and "0:00-0:01.2" in lines[1] and "among 5 clips: cosines of 1.000" in lines[-1]


def test_a_second_writer_of_an_index_is_told_of_the_first(made):
    before = {file.name: file.read_bytes() for file in (made / "index").iterdir()}
    with lock_folder(made / "index"):
        done = run("index", made / "videos", "--out", made / "index", "--jobs", 1)
        assert run("search", made / "index", "green", "--json").returncode == 0, "any number may search"
    who = f"is being written by process {os.getpid()} on {socket.gethostname()} since "
    assert_refused(done, who, "run the same command again")
    assert {file.name: file.read_bytes() for file in (made / "index").iterdir()} == before


def save(path, color):
    Image.fromarray(picture(color)).save(path)
    return path


def test_montage_shows_the_hits(made, tmp_path):
    sheet = tmp_path / "deep/hits.png"
    query = ("--video", made / "videos/red.mp4", "--top-k", 4, "--per-video", 1)
    result = run("search", made / "index", *query, "--montage", sheet)
    assert result.returncode == 0, result.stderr
    hits = json.loads(run("search", made / "index", *query, "--json").stdout)["hits"]
    pixels = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    # The first tile holds a red frame of 48 x 32, in the middle of 256 x 144 below the title.
    left, top = 8 + 104, 33 + 56
    tile = pixels[top + 4 : top + 28, left + 4 : left + 44]
    assert hits[0]["video"].endswith("red.mp4")
    assert np.abs(tile.mean(axis=(0, 1)) - COLORS["red"]).max() < 40
    assert list(sheet.parent.iterdir()) == [sheet]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("search", "{index}"), ("one query",)),
        (("search", "{index}", "text", "--video", "x.mp4"), ("one query",)),
        (("search", "{index}", ""), ("empty",)),
        (("search", "{videos}", "text"), ("holds no index", "internvideo index")),
        (("search", "{index}", "text", "--montage", "x.txt"), (".png",)),
        (("search", "{index}", "text", "--model", "nowhere"), ("nowhere", "--model")),
        (("search", "{index}", "text", "--model", "{viclip}"), ("another model",)),
        (("search", "{index}", "text", "--approximate"), ("approximate",)),
        (("search", "{index}", "--video", "none.mp4"), ("none.mp4",)),
        (("search", "{index}", "--image", "{videos}/red.mp4"), ("not an image file",)),
        (("search", "{index}", "text", "--top-k", "0"), ("top-k",)),
        (("index", "{videos}", "--out", "{videos}/../new"), ("--model",)),
        (("index", "{videos}"), ("--out", "--store")),
        (("index", "{videos}", "--out", "x", "--store", "lance:x"), ("--out", "--store")),
        (("index", "{videos}", "--store", "mysql://me:s3cret@h"), ("mysql://me:***@h", "postgresql://")),
        (("index", "{videos}", "--out", "postgresql://me:s3cret@h/db"), ("--out postgresql://me:***@h/db", "--store")),
        (("index", "{videos}", "--out", "lance:x"), ("--out lance:x", "--store")),
        (("index", "{videos}", "--out", "{index}", "--window", "2s"), ("--window 1.0", "new index")),
        (("index", "{videos}", "--out", "{index}", "--window", "long"), ("8s",)),
        (("index", "{videos}", "--out", "{index}", "--model", "{viclip}"), ("another model",)),
        (("index", "{videos}", "--out", "{videos}", "--model", "{model}"), ("something else",)),
        (
            ("index", "{videos}/none", "--out", "{videos}/../new", "--model", "{model}", "--jobs", "1"),
            ("{videos}/none: no such file",),
        ),
        (
            ("index", "{videos}/no.mp4", "{videos}/n", "--out", "{videos}/../new", "--model", "{model}"),
            ("None of the 2 videos exists, such as {videos}/no.mp4",),
        ),
        (("index", "none", "--out", "hf://datasets/o/n/x", "--model", "{model}"), ("hf:// is only read",)),
        (("index", "none", "--store", "lance:hf://datasets/o/n/x", "--model", "{model}"), ("hf:// is only read",)),
    ],
)
def test_a_mistake_is_refused_in_one_line(made, small_folder, viclip_folder, arguments, words):
    names = {"index": made / "index", "videos": made / "videos", "model": small_folder, "viclip": viclip_folder}
    refused = run(*(argument.format(**names) for argument in arguments))
    assert_refused(refused, *(word.format(**names) for word in words))
    assert not list(made.glob("new*")) and "0 videos" not in refused.stdout


def test_an_index_keeps_the_number_types_it_was_made_with(made, tmp_path):
    model = json.loads((made / "index/index.json").read_text())["model"]
    shutil.copy(made / "videos/red.mp4", tmp_path)
    call = ("index", tmp_path / "red.mp4", "--out", tmp_path / "index", "--jobs", 1, "-q")
    chosen = ("--dtype", "bfloat16", "--store-dtype", "float16", "--batch-size", 2)
    assert run(*call, "--model", model, *chosen).returncode == 0
    header = json.loads((tmp_path / "index/index.json").read_text())
    assert (header["model_dtype"], header["dtype"]) == ("bfloat16", "float16")
    refused = run(*call, "--dtype", "float16", "--store-dtype", "float32")
    assert_refused(refused, "(--dtype bfloat16, now float16; --store-dtype float16, now float32)", "new index")
    assert run(*call).returncode == 0, "left out, they are those of the index"
    for options in ((), ("--dtype", "float32")):
        found = run("search", tmp_path / "index", "--video", tmp_path / "red.mp4", "--json", *options)
        assert json.loads(found.stdout)["hits"][0]["similarity"] == pytest.approx(1, abs=0.01), found.stderr
    assert "model_dtype" not in json.loads((made / "index/index.json").read_text())


def test_another_model_changes_nothing_of_an_index(made, viclip_folder, tmp_path):
    """Whatever there is to do: a video changed, moved, and gone."""
    videos, index = tmp_path / "videos", tmp_path / "index"
    gallery(videos)
    model = json.loads((made / "index/index.json").read_text())["model"]
    assert run("index", videos, "--out", index, "--model", model, "--jobs", 1, "--quiet").returncode == 0
    files = sorted(videos.glob("*.mp4"))
    before = {file.name: file.read_bytes() for file in index.iterdir()}

    def refuse_another() -> None:
        done = run("index", videos, "--out", index, "--model", viclip_folder, "--jobs", 1)
        assert_refused(done, "another model", model)
        assert {file.name: file.read_bytes() for file in index.iterdir()} == before

    refuse_another()
    files[0].rename(videos / "moved.mp4")
    refuse_another()
    files[1].unlink()
    refuse_another()
    shutil.copy(files[2], files[1])
    refuse_another()
    done = run("index", videos, "--out", index, "--jobs", 1, "--quiet")
    assert done.returncode == 0, done.stderr
    assert json.loads((index / "index.json").read_text())["model"] == model
