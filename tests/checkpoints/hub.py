"""A server that plays the Hub and the addresses of released files, for one file."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import servers

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds, how it errs, and what it was asked.

    Args:
        content: of the file.
        name: of the file in the repository; None if the repository lacks it.
        status: answer to the listing of a repository, 200 for success.
        sha256: hash that the listing states; that of the content if None.
        cut: bytes after which the first transfer breaks off.
    """

    content: bytes
    name: str | None = "folder/model.ckpt"
    status: int = 200
    sha256: str | None = None
    cut: int | None = None
    address: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def hash(self) -> str:
        return self.sha256 or hashlib.sha256(self.content).hexdigest()


def handler_of(hub: Hub) -> type[servers.Quiet]:
    class Handler(servers.Quiet):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path, wanted = self.path.split("?")[0], self.headers.get("Range")
            hub.asked.append((self.command, path, wanted))
            if path.startswith("/api/models/"):
                self.list_files()
            elif path.endswith((f"/{hub.name}", "/direct.ckpt")) and "gone" not in path:
                self.send_file(wanted)
            else:
                self.send_error(404)

        def list_files(self):
            if hub.status != 200:
                self.send_response(hub.status)
                if hub.status == 403:
                    self.send_header("X-Error-Code", "GatedRepo")
                self.end_headers()
                return
            lfs = {"sha256": hub.hash, "size": len(hub.content), "pointerSize": 130}
            files = [{"rfilename": hub.name, "size": len(hub.content), "blobId": "1", "lfs": lfs}] if hub.name else []
            body = json.dumps({"id": "a/b", "sha": COMMIT, "siblings": files, "private": False, "tags": []}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def send_file(self, wanted):
            first = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
            body = hub.content[first:]
            self.send_response(206 if wanted else 200)
            self.send_header("ETag", f'"{hub.hash}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Size", str(len(hub.content)))
            self.send_header("Content-Length", str(len(body)))
            if wanted:
                total = len(hub.content)
                self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.cut is not None:
                body, hub.cut = body[: hub.cut], None
            self.wfile.write(body)

    return Handler


@contextlib.contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    with servers.serve(handler_of(hub)) as hub.address:
        yield hub


def use(hub: Hub, monkeypatch, folder: Path) -> None:
    """Let huggingface_hub ask this server, and keep everything in a folder."""
    from huggingface_hub import constants
    from transformers.utils import hub as hub_of_transformers

    for name, value in {
        "ENDPOINT": hub.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(folder / "hub"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DOWNLOAD_TIMEOUT": 5,
        "HF_HUB_ETAG_TIMEOUT": 5,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(hub_of_transformers, "_hf_api", None, raising=False)  # made at first use, for one address
    monkeypatch.setenv("INTERNVIDEO_CACHE", str(folder / "ours"))
