"""A small Hub on a local port for tests that push: repositories in memory, the real client's own requests."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test_token_of_nobody"
SHA = "0123456789abcdef0123456789abcdef01234567"
API = re.compile(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/([a-z]+)(?:/([^/]+))?(?:/(.+))?)?")
FILE = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class HubStub:
    """Repositories as ("spaces", "me/studio") → what create_repo said, and their files. Small files only: it asks for
    everything inline, as the Hub does for files that are neither large nor binary."""

    url: str = ""
    repos: dict[tuple[str, str], dict] = field(default_factory=dict)
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # "POST /api/…"
    fail: int = 0  # answer commits with this status instead

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> tuple[int, bytes, str | None]:
        """Status, body, and the Hub's error code."""
        self.asked.append(f"{method} {path}")
        if method == "POST" and token != TOKEN:
            return 401, b'{"error": "Invalid username or password."}', None
        if path == "/api/repos/create":
            said = json.loads(body)
            key = (said["type"] + "s", f"{said['organization'] or 'me'}/{said['name']}")
            if key in self.repos:
                return (
                    409,
                    json.dumps(
                        {"error": "You already created this repo", "url": f"{self.url}/{'/'.join(key)}"}
                    ).encode(),
                    None,
                )
            self.repos[key], self.files[key] = said, {}
            return 200, json.dumps({"url": f"{self.url}/{'/'.join(key)}"}).encode(), None
        if path == "/api/validate-yaml":
            return 200, b'{"errors": [], "warnings": []}', None
        if found := API.fullmatch(path):
            kind, repo, verb, _, rest = found.groups()
            return self.of_repo((kind, repo), verb, rest, body)
        if found := FILE.fullmatch(path):
            content = self.files.get((found[1] or "models", found[2]), {}).get(found[4])
            return (200, content, None) if content is not None else (404, b"", "EntryNotFound")
        return 404, b"", None

    def of_repo(self, key: tuple[str, str], verb: str | None, rest: str | None, body: bytes):
        if key not in self.repos:
            return 404, b'{"error": "Repository not found"}', "RepoNotFound"
        files = self.files[key]
        if verb == "preupload":
            asked = json.loads(body)["files"]
            told = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]
            return 200, json.dumps({"files": told}).encode(), None
        if verb == "commit":
            if self.fail:
                return self.fail, b'{"error": "no"}', None
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    files.pop(value["path"])
                elif line["key"] == "deletedFolder":
                    for name in [name for name in files if name.startswith(value["path"].rstrip("/") + "/")]:
                        files.pop(name)
            made = {"commitUrl": f"{self.url}/{'/'.join(key)}/commit/{SHA}", "commitOid": SHA}
            return 200, json.dumps(made | {"hookOutput": "", "success": True}).encode(), None
        if verb == "tree":
            listed = [{"type": "file", "path": n, "size": len(c), "oid": oid(c)} for n, c in sorted(files.items())]
            listed = [item for item in listed if not rest or item["path"].startswith(rest + "/")]
            return 200, json.dumps(listed).encode(), None
        if verb == "hardware":
            self.repos[key]["hardware"] = json.loads(body)["flavor"]
            return 200, json.dumps({"stage": "BUILDING", "hardware": {}, "gcTimeout": None}).encode(), None
        said = self.repos[key]
        private = said.get("visibility") == "private" or bool(said.get("private"))
        facts = {"id": key[1], "sha": SHA, "private": private, "tags": [], "downloads": 0, "likes": 0}
        facts["siblings"] = [{"rfilename": name} for name in sorted(files)]
        return 200, json.dumps(facts).encode(), None


def oid(content: bytes) -> str:
    """Git's name for a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def hub_stub() -> Iterator[HubStub]:
    stub = HubStub()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for the client to confirm its head

        def handle_any(self):
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
            status, content, error = stub.answer(self.command, unquote(urlsplit(self.path).path), body, token)
            self.send_response(status)
            headers = {"Content-Length": len(content), "ETag": f'"{oid(content)}"', "X-Repo-Commit": SHA}
            for name, value in (headers | ({"X-Error-Code": error} if error else {})).items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = handle_any

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    stub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
