"""A newcomer searches their own videos, by commands that our pages and `--help` say."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from newcomer import Newcomer
from PIL import Image


@pytest.fixture
def desk(drawn, tmp_path, monkeypatch) -> list[str]:
    """Return the captions of six clips in `videos`, two folders deep, beside a file that is none."""
    for number in range(6):
        file = tmp_path / f"videos/{'ab'[number % 2]}/{number}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(drawn[0] / f"test/{number:05d}.mp4", file)
    (tmp_path / "videos/notes.txt").write_text("no video")
    monkeypatch.chdir(tmp_path)
    return drawn[1]


def hits(printed: str) -> list[str]:
    return re.findall(r"^[ *] +\d+\. .* (\S+\.mp4)$", printed, re.M)


@pytest.mark.parametrize("outside", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_newcomer_searches_their_videos(desk, outside):
    newcomer = Newcomer(outside)
    say, videos = newcomer.say, Path("videos").resolve()
    assert "internvideo index videos --model" in newcomer.pages and "--montage hits.png" in newcomer.pages
    made = say("index", "videos", "--model", "demo-mm", "--out", "videos.index", "--jobs", 1)
    assert made == "videos.index: 6 videos in 6 clips (6 new).\n"

    found = say("search", "videos.index", desk[3], "--top-k", 3, "--montage", "hits.png")
    assert hits(found)[0] == f"{videos}/b/3.mp4" and len(hits(found)) == 3
    assert "\n*  1. " in found and "* matches: " in found and "cosine: similarity of query and clip" in found
    with Image.open("hits.png") as picture:
        assert picture.width > picture.height > 100

    similar = say("search", "videos.index", "--video", "videos/a/2.mp4", "--top-k", 2)
    assert hits(similar)[0] == f"{videos}/a/2.mp4" and re.search(r"^  +1\.  1\.000 ", similar, re.M)
    if outside:
        assert "Nothing here matches" in say("search", "videos.index", "people cook pasta in a kitchen")

    # Something changes; the same command without the model, which the index names, finds it.
    Path("videos/a/0.mp4").unlink()
    Path("videos/b/1.mp4").rename("videos/a/renamed.mp4")
    shutil.copy("videos/b/3.mp4", "videos/b/5.mp4")
    changed = say("index", "videos", "--out", "videos.index", "--jobs", 1)
    assert changed == "videos.index: 5 videos in 5 clips (1 changed, 1 moved, 1 removed, 3 unchanged).\n"
    assert set(hits(say("search", "videos.index", desk[3]))[:2]) == {f"{videos}/b/3.mp4", f"{videos}/b/5.mp4"}
    if outside:
        assert hits(say("search", "videos.index", desk[1], "--top-k", 1)) == [f"{videos}/a/renamed.mp4"]


@pytest.mark.slow
def test_a_newcomer_opens_the_page_of_their_index(desk):
    Newcomer().say("index", "videos", "--model", "demo-mm", "--out", "videos.index", "--jobs", 1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "internvideo_hf", "demo", "--index", "videos.index", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        answer, address = b"", f"http://127.0.0.1:{port}/"
        for _ in range(240):
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as response:
                answer = response.read()
                break
            time.sleep(0.5)
        page.send_signal(signal.SIGTERM)
        printed = page.communicate(timeout=60)[0]
    assert b"<html" in answer and f"Open {address} in a browser" in printed
