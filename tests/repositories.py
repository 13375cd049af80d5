"""A server that plays the Hub for repositories of models: it creates them, takes commits and gives their files."""

import base64
import contextlib
import hashlib
import json
import re
from urllib.parse import unquote

import servers

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MAIN = "main"


class Repositories(dict[str, dict[str, bytes]]):
    """Name of a repository -> its files; another branch is owner/name@branch.

    Attributes:
        visibility: name -> what it was created as, "private" or "public"; None where its owner's default was taken.
        foreign: names of those to which the user may not write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.visibility: dict[str, str | None] = {}
        self.foreign: set[str] = set()

    def branch(self, name: str, revision: str) -> str | None:
        """Return the key of a branch, or of the branch with a commit; None if there is none."""
        keys = [key for key in self if key.partition("@")[0] == name]
        return next((key for key in keys if revision in (key.partition("@")[2] or MAIN, commit_of(key))), None)


def commit_of(key: str) -> str:
    """Return the hash of the commit of a branch."""
    return hashlib.sha1(key.encode()).hexdigest() if "@" in key else COMMIT


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

    def missing(self, code: str, commit: str = COMMIT) -> None:
        self.send_response(404)
        for name, value in {"X-Error-Code": code, "X-Repo-Commit": commit, "Content-Length": "0"}.items():
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
            path, _, query = self.path.partition("?")
            if path == "/api/repos/create":
                self.create(json.loads(body))
            elif path == "/api/validate-yaml":
                self.answer({"errors": [], "warnings": []})
            elif match := re.fullmatch("/api/models/([^/]+/[^/]+)/branch/(.+)", path):
                new = f"{match[1]}@{unquote(match[2])}"
                if new in repositories:
                    self.refuse(409)
                else:
                    repositories[new] = dict(repositories[match[1]])
                    self.answer({})
            elif match := re.fullmatch("/api/models/([^/]+/[^/]+)/(preupload|commit)/(.+)", path):
                self.write(match[1], match[2], unquote(match[3]), body, "create_pr=1" in query)
            else:
                self.missing("RepoNotFound")

        def create(self, asked):
            name = f"{asked['organization']}/{asked['name']}"
            if name in repositories.foreign:
                self.refuse(403)
                return
            made = {"url": f"http://{self.headers['Host']}/{name}", "id": name}
            if name in repositories:
                self.send(json.dumps(made).encode(), "application/json", 409)
                return
            repositories[name] = {}
            repositories.visibility[name] = asked.get("visibility") or ("private" if asked.get("private") else None)
            self.answer(made)

        def write(self, name, action, revision, body, is_request):
            key = repositories.branch(name, revision)
            if key is None:
                self.missing("RevisionNotFound")
            elif name in repositories.foreign and not is_request:
                self.refuse(403)
            elif action == "preupload":
                whole = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
                self.answer({"files": [{"path": file["path"], **whole} for file in json.loads(body)["files"]]})
            else:
                self.commit(name, key, map(json.loads, body.splitlines()), is_request)

        def commit(self, name, key, entries, is_request):
            address, request = f"http://{self.headers['Host']}/{name}", None
            if is_request:
                number = 1 + len([other for other in repositories if other.startswith(f"{name}@refs/pr/")])
                key, request = f"{name}@refs/pr/{number}", f"{address}/discussions/{number}"
                repositories[key] = dict(repositories[name])
            for entry in entries:
                if entry["key"] == "file":
                    repositories[key][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            oid = commit_of(key)
            self.answer(
                {"success": True, "commitOid": oid, "commitUrl": f"{address}/commit/{oid}", "pullRequestUrl": request}
            )

        def refuse(self, status: int) -> None:
            self.send(b'{"error": "no"}', "application/json", status)

        def chunks(self) -> bytes:
            read = b""
            while size := int(self.rfile.readline(), 16):
                read += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return read

        def do_GET(self):
            path = self.path.split("?")[0]
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?(/.*)?", path):
                key = repositories.branch(match[1], unquote(match[2] or MAIN))
                if key is None:
                    self.missing("RepoNotFound")
                elif (match[3] or "").startswith("/tree"):
                    self.missing("EntryNotFound")  # of folders below
                else:
                    files = [{"rfilename": name} for name in repositories[key]]
                    private = repositories.visibility.get(match[1]) == "private"
                    self.answer(
                        {"id": match[1], "sha": commit_of(key), "siblings": files, "private": private, "tags": []}
                    )
            elif match := re.fullmatch("/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                key = repositories.branch(match[1], unquote(match[2]))
                if key is None:
                    self.missing("RepoNotFound" if match[1] not in repositories else "RevisionNotFound")
                elif match[3] not in repositories[key]:
                    self.missing("EntryNotFound", commit_of(key))
                else:
                    commit = {"X-Repo-Commit": commit_of(key)}
                    self.send(repositories[key][match[3]], "application/octet-stream", headers=commit)
            else:
                self.missing("RepoNotFound")

    return Handler


def serve(repositories: Repositories) -> contextlib.AbstractContextManager[str]:
    """Serve repositories, and give the address."""
    return servers.serve(handler_of(repositories))
