"""`demo` with --index, and refused options; the tour is tested in tests/demo."""

import sys
import urllib.request

import pytest
from demo.ports import free_port
from program import run

from internvideo_hf import cli
from internvideo_hf.demo import tour

pytestmark = pytest.mark.filterwarnings("ignore:::gradio")


def test_the_command_serves_the_page_until_it_is_ended(drawn, monkeypatch):
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    port, pages = free_port(), []

    def look():
        pages.append(urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10).read())

    monkeypatch.setattr(cli.demo, "_wait_for_ctrl_c", look)
    result = run("demo", "--index", drawn[0] / "index", "--port", port, "--device", "cpu")
    assert result.returncode == 0 and result.stderr == "" and len(pages) == 1, result.stderr
    first, second, last = result.stdout.splitlines()
    assert "6 videos in 12 clips" in first and second == tour.LIMITS and f"http://127.0.0.1:{port}" in last


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--index", "{index}", "--video", "a.mp4"), ("--video", "--index")),
        (("--index", "{index}", "--clips", "12"), ("--clips",)),
        (("--index", "{index}", "--seed", "1"), ("--seed",)),
        (("--index", "{index}", "--out", "demo"), ("--out",)),
        (("--index", "{index}", "--json"), ("--json",)),
        (("--port", "7861"), ("--port needs --index",)),
        (("--host", "127.0.0.1"), ("--host needs --index",)),
        (("--model", "demo-mm"), ("--model needs --index",)),
        (("--device", "cpu"), ("--device needs --index",)),
        (("--dtype", "float16"), ("--dtype needs --index",)),
        (("--index", "{index}", "--port", "0"), ("--port",)),
        (("--index", "{videos}"), ("holds no index", "internvideo index")),
        (("--index", "{index}", "--model", "nowhere"), ("nowhere", "give its new folder by --model")),
        (("--index", "{index}", "--model", "demo-classifier"), ("another model",)),
    ],
)
def test_options_that_do_not_go_together_are_refused(drawn, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.demo, "_wait_for_ctrl_c", lambda: pytest.fail("it serves"))
    names = {"index": drawn[0] / "index", "videos": drawn[0] / "test"}
    result = run("demo", *(option.format(**names) for option in options))
    assert result.returncode == 2 and "Traceback" not in result.stderr and not list(tmp_path.iterdir())
    for word in words:
        assert word in result.stderr


def test_without_gradio_the_extra_is_named(drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = run("demo", "--index", drawn[0] / "index")
    assert result.returncode == 2 and "pip install 'internvideo-hf[demo]'" in result.stderr


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    result = run("demo", "--out", tmp_path / "file")
    assert result.returncode == 2 and "is a file" in result.stderr
