"""A server that plays the Hub for one repository of a dataset: its files are listed, and read in whole or in part."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

import pytest
import servers
from repositories import COMMIT, Hub

NAME = "you/clips"


def handler_of(files: dict[str, bytes]) -> type[servers.Quiet]:
    """Return the handler of requests for a repository.

    Args:
        files: their contents by path.
    """

    class Handler(Hub):
        def do_GET(self):
            path = self.path.split("?")[0]
            listed = re.fullmatch(f"/api/datasets/{NAME}/tree/(?:main|{COMMIT})/?(.*)", path)
            asked = re.fullmatch(f"/datasets/{NAME}/resolve/(?:main|{COMMIT})/(.+)", path)
            if path == f"/api/datasets/{NAME}":
                self.answer({"id": NAME, "sha": COMMIT, "siblings": [], "private": False, "tags": []})
            elif listed:
                top = f"{listed[1]}/" if listed[1] else ""
                below = [name for name in files if name.startswith(top)]
                if listed[1] and not below:
                    self.missing("EntryNotFound")
                else:
                    parents = [str(path) for name in below for path in PurePosixPath(name).parents]
                    names = [*below, *(name for name in parents if len(name) > len(top) and name != ".")]
                    if "recursive=true" not in self.path.lower():
                        names = [name for name in names if "/" not in name.removeprefix(top)]
                    self.answer([self.entry(name) for name in dict.fromkeys(names)])
            elif asked and asked[1] in files:
                content = files[asked[1]]
                part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
                first, last = (int(part[1]), min(int(part[2]), len(content) - 1)) if part else (0, len(content) - 1)
                span = {"Content-Range": f"bytes {first}-{last}/{len(content)}"} if part else {}
                self.send(content[first : last + 1], "application/octet-stream", 206 if part else 200, span)
            else:
                self.missing("EntryNotFound")

        def entry(self, name: str) -> dict[str, object]:
            if name not in files:
                return {"type": "directory", "path": name, "size": 0, "oid": hashlib.sha1(name.encode()).hexdigest()}
            content = files[name]
            return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    return Handler


@contextmanager
def as_the_hub(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve a repository, and let this process take the server for the Hub.

    Args:
        files: as of `handler_of`.
        monkeypatch: of the test.
    """
    from huggingface_hub import HfFileSystem, constants

    with servers.serve(handler_of(files)) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        HfFileSystem.clear_instance_cache()
        yield
    HfFileSystem.clear_instance_cache()
