"""A server that plays the Hub for one repository of a dataset: its files are listed, and read in whole or in part."""

import hashlib
import json
import re

import servers

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "you/clips"


def handler_of(files: dict[str, bytes]) -> type[servers.Quiet]:
    """Return the handler of requests for a repository.

    Args:
        files: their contents by path.
    """

    class Handler(servers.Quiet):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = self.path.split("?")[0]
            listed = re.fullmatch(f"/api/datasets/{NAME}/tree/(?:main|{COMMIT})/?(.*)", path)
            asked = re.fullmatch(f"/datasets/{NAME}/resolve/(?:main|{COMMIT})/(.+)", path)
            if path == f"/api/datasets/{NAME}":
                self.answer({"id": NAME, "sha": COMMIT, "siblings": [], "private": False, "tags": []})
            elif listed:
                below = [name for name in files if name.startswith(f"{listed[1]}/" if listed[1] else "")]
                if listed[1] and not below:
                    self.send(b"", 404, {"X-Error-Code": "EntryNotFound"})
                else:
                    self.answer([self.entry(name) for name in below])
            elif asked and asked[1] in files:
                content = files[asked[1]]
                part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
                first, last = (int(part[1]), min(int(part[2]), len(content) - 1)) if part else (0, len(content) - 1)
                span = {"Content-Range": f"bytes {first}-{last}/{len(content)}"} if part else {}
                self.send(content[first : last + 1], 206 if part else 200, {"ETag": '"1"', **span})
            else:
                self.send(b"", 404, {"X-Error-Code": "EntryNotFound"})

        def entry(self, name: str) -> dict[str, object]:
            content = files[name]
            return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

        def answer(self, content: object) -> None:
            self.send(json.dumps(content).encode(), 200, {})

        def send(self, body: bytes, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler
