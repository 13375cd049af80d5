"""Clips, decoders and a web server for the tests of this folder."""

import time
from pathlib import Path

import pytest
from servers import Quiet, serve
from video.clips import write_video

from internvideo_hf.video.backends import decord_problem, torchcodec_problem


@pytest.fixture(params=["pyav", "decord", "torchcodec"])
def backend(request) -> str:
    problem = {"pyav": None, "decord": decord_problem(), "torchcodec": torchcodec_problem()}[request.param]
    if problem:
        pytest.skip(f"{request.param} does not load: {problem}")
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def plain(folder) -> Path:
    return write_video(folder / "plain.mp4")


class _Server(Quiet):
    content = b""

    def do_GET(self):
        if self.path.startswith("/missing"):
            return self.send_error(404)
        if self.path.startswith("/redirect"):
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/a.mp4")
            return self.end_headers()
        self.send_response(200)
        if not self.path.startswith("/unsized"):
            self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if self.path.startswith("/slow"):
            time.sleep(3)
        half = self.path.startswith("/half")
        self.wfile.write(self.content[: len(self.content) // 2] if half else self.content)


@pytest.fixture(scope="module")
def server(plain):
    _Server.content = plain.read_bytes()
    with serve(_Server) as address:
        yield address
