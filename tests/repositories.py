"""A server that plays the Hub for repositories of models: it creates them, takes commits and gives their files."""

import base64
import contextlib
import hashlib
import json
import re

import servers

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Repositories = dict[str, dict[str, bytes]]
"""Name of a repository -> its files."""


class Hub(servers.Quiet):
    """What answers of the Hub have in common."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def answer(self, content) -> None:
        self.send(json.dumps(content).encode(), "application/json")

    def send(self, body: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": len(body),
            "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            **(headers or {}),
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code: str) -> None:
        self.send_response(404)
        for name, value in {"X-Error-Code": code, "X-Repo-Commit": COMMIT, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()


def handler_of(repositories: Repositories) -> type[servers.Quiet]:
    class Handler(Hub):
        def do_POST(self):
            body = (
                self.rfile.read(int(self.headers["Content-Length"]))
                if "Content-Length" in self.headers
                else self.chunks()
            )
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                repositories.setdefault(name, {})
                self.answer({"url": f"http://{self.headers['Host']}/{name}", "id": name})
            elif self.path == "/api/validate-yaml":
                self.answer({"errors": [], "warnings": []})
            elif self.path.endswith("/preupload/main"):
                files = json.loads(body)["files"]
                whole = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
                self.answer({"files": [{"path": file["path"], **whole} for file in files]})
            elif match := re.fullmatch("/api/models/(.+)/commit/main", self.path):
                for entry in map(json.loads, body.splitlines()):
                    if entry["key"] == "file":
                        repositories[match[1]][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                address = f"http://{self.headers['Host']}/{match[1]}/commit/{COMMIT}"
                self.answer({"success": True, "commitOid": COMMIT, "commitUrl": address, "pullRequestUrl": None})
            else:
                self.missing("RepoNotFound")

        def chunks(self) -> bytes:
            read = b""
            while size := int(self.rfile.readline(), 16):
                read += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return read

        def do_GET(self):
            path = self.path.split("?")[0]
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/.*)?", path):
                if match[1] not in repositories:
                    self.missing("RepoNotFound")
                elif (match[2] or "").startswith("/tree"):
                    self.missing("EntryNotFound")  # of folders below
                else:
                    files = [{"rfilename": name} for name in repositories[match[1]]]
                    self.answer({"id": match[1], "sha": COMMIT, "siblings": files, "private": False, "tags": []})
            elif match := re.fullmatch(f"/([^/]+/[^/]+)/resolve/(?:main|{COMMIT})/(.+)", path):
                if match[1] not in repositories:
                    self.missing("RepoNotFound")
                elif match[2] not in repositories[match[1]]:
                    self.missing("EntryNotFound")
                else:
                    self.send(repositories[match[1]][match[2]], "application/octet-stream")
            else:
                self.missing("RepoNotFound")

    return Handler


def serve(repositories: Repositories) -> contextlib.AbstractContextManager[str]:
    """Serve repositories, and give the address."""
    return servers.serve(handler_of(repositories))
