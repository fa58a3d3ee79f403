"""A small Hub on a local port: accounts, repositories with commits, LFS, and the answers that huggingface_hub reads.

It follows the Hub's HTTP interface as far as this project uses it, huggingface_hub itself talks to it (HF_ENDPOINT, or
its constants), and it can be told to fail. What it keeps is in `repos`, what it was asked in `seen`.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

LFS = (".parquet", ".safetensors", ".bin", ".gguf")  # as .gitattributes of a new repository has it
LICENSES = ("mit", "apache-2.0", "cc-by-4.0", "other", "unknown")
LONGEST_REGULAR = 10_000_000


@dataclass
class Account:
    name: str
    role: str = "write"  # of its token
    orgs: tuple[str, ...] = ()


@dataclass
class Repo:
    """A repository: commit → the files by then, in order; the last is main's."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False
    down: bool = False

    @property
    def sha(self) -> str:
        return list(self.commits)[-1]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.sha]

    def commit(self, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(f"{len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits[sha] = dict(files)
        return sha


@dataclass
class Fault:
    """From the request after `spare` matching ones on: this answer, `times` times; code 0 cuts the connection."""

    what: re.Pattern
    code: int
    spare: int
    times: int
    headers: dict[str, str]


class Hub:
    """The server. Use as a context manager."""

    def __init__(self):
        self.accounts: dict[str, Account] = {}  # token → whose it is
        self.repos: dict[tuple[str, str], Repo] = {}  # (type, name)
        self.objects: dict[str, bytes] = {}  # LFS: sha256 → content
        self.seen: list[tuple[str, str, str]] = []  # (method, path, Authorization)
        self.faults: list[Fault] = []
        self.lock = threading.Lock()

    def __enter__(self) -> Hub:
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.elsewhere = self.url.replace("127.0.0.1", "localhost")  # where large files lie is another host
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, name: str, folder: Path | None = None, kind: str = "model", private: bool = False, **state) -> Repo:
        """A repository with the files of a folder."""
        repo = self.repos[kind, name] = Repo(private, **state)
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")} if folder else {}
        repo.commit(files)
        return repo

    def fail(self, what: str, code: int, spare: int = 0, times: int = 10**9, **headers: str) -> Fault:
        """Answer requests whose "METHOD path" is found by `what` with this code; 0 cuts the connection."""
        self.faults.append(Fault(re.compile(what), code, spare, times, headers))
        return self.faults[-1]

    def asked(self, what: str) -> int:
        """How many requests were "METHOD path" like this."""
        return sum(bool(re.search(what, f"{method} {path}")) for method, path, _ in self.seen)

    def tokens(self) -> set[str]:
        """Every token that came."""
        return {sent.removeprefix("Bearer ") for _, _, sent in self.seen if sent}


def is_lfs(path: str, size: int) -> bool:
    return path.endswith(LFS) or size > LONGEST_REGULAR


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Refused(Exception):
    def __init__(self, code: int, error: str = "", message: str = ""):
        self.code, self.error, self.message = code, error, message


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client to confirm its head
    hub: Hub

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self._chunks())
        path = unquote(urlsplit(self.path).path)
        with self.hub.lock:
            self.hub.seen.append((self.command, path, self.headers.get("Authorization", "")))
            fault = self._fault(f"{self.command} {path}")
        if fault:
            if not fault.code:
                self.close_connection = True
                self.connection.close()
                return
            self.answer(fault.code, b'{"error": "as told"}', fault.headers)
            return
        try:
            with self.hub.lock:
                self.route(path, body)
        except _Refused as refused:
            said = {"X-Error-Code": refused.error, "X-Error-Message": refused.message}
            said = {name: text for name, text in said.items() if text}
            self.answer(refused.code, json.dumps({"error": refused.message}).encode(), said)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def _chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _fault(self, what: str) -> Fault | None:
        for fault in self.hub.faults:
            if fault.what.search(what) and fault.times > 0:
                if fault.spare > 0:
                    fault.spare -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def answer(self, code: int, body: bytes = b"", headers: dict | None = None) -> None:
        self.send_response(code)
        for name, value in ({"Content-Length": len(body)} | (headers or {})).items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, document, code: int = 200) -> None:
        self.answer(code, json.dumps(document).encode(), {"Content-Type": "application/json"})

    # ---- who asks, and for what

    def account(self) -> Account | None:
        """None without a token. A token that is nobody's is refused."""
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if sent and sent not in self.hub.accounts:
            raise _Refused(401, message="Invalid credentials in Authorization header")
        return self.hub.accounts.get(sent)

    def writer(self, owner: str) -> None:
        account = self.account()
        if account is None:
            raise _Refused(401, message="Invalid username or password.")
        if account.role == "read" or owner not in (account.name, *account.orgs):
            raise _Refused(403, message="You don't have the rights to create or change this under this namespace")

    def repo(self, kind: str, name: str, revision: str | None = None) -> tuple[Repo, str]:
        account = self.account()
        repo = self.hub.repos.get((kind, name))
        mine = account and name.partition("/")[0] in (account.name, *account.orgs)
        if repo is None or (repo.private and not mine):
            raise _Refused(404 if account else 401, "RepoNotFound", "Repository not found")
        if repo.gated:
            raise _Refused(403, "GatedRepo", "gated")
        if repo.down:
            raise _Refused(503)
        sha = repo.sha if revision in (None, "main") else revision
        if sha not in repo.commits:
            raise _Refused(404, "RevisionNotFound", "no such revision")
        return repo, sha

    def route(self, path: str, body: bytes) -> None:
        said = (
            json.loads(body)
            if body[:1] in (b"{", b"[") and "ndjson" not in self.headers.get("Content-Type", "")
            else {}
        )
        name = r"([\w.-]+/[\w.-]+)"
        routes = {
            r"GET /api/whoami-v2": self.whoami,
            r"POST /api/repos/create": self.create,
            r"POST /api/validate-yaml": self.validate,
            rf"POST /api/(model|dataset)s/{name}/preupload/([^/]+)": self.preupload,
            rf"POST /(?:(dataset)s/)?{name}\.git/info/lfs/objects/batch": self.batch,
            rf"POST /api/(model|dataset)s/{name}/commit/([^/]+)": self.commit,
            rf"POST /api/(model|dataset)s/{name}/paths-info/([^/]+)": self.paths_info,
            rf"GET /api/(model|dataset)s/{name}(?:/revision/([^/]+))?": self.info,
            rf"GET /api/(model|dataset)s/{name}/tree/([^/]+)(?:/(.+))?": self.tree,
            rf"(?:GET|HEAD) /(?:(dataset)s/)?{name}/resolve/([^/]+)/(.+)": self.resolve,
        }
        if found := re.fullmatch(r"(GET|HEAD|PUT) /lfs/([0-9a-f]{64})", f"{self.command} {path}"):
            return self.store(found[2], body) if found[1] == "PUT" else self.serve(self.hub.objects[found[2]], found[2])
        for pattern, method in routes.items():
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                return method(said or body, *found.groups())
        raise _Refused(404)

    def whoami(self, _) -> None:
        account = self.account()
        if account is None:
            raise _Refused(401, message="Invalid username or password.")
        orgs = [{"type": "org", "name": name} for name in account.orgs]
        token = {"displayName": "a token", "role": account.role}
        self.json({"type": "user", "name": account.name, "orgs": orgs, "auth": {"accessToken": token}})

    def create(self, said: dict) -> None:
        account = self.account()
        owner = said.get("organization") or (account and account.name)
        self.writer(owner)
        key = (said.get("type") or "model", f"{owner}/{said['name']}")
        if key in self.hub.repos:
            raise _Refused(409, message="You already created this repo")
        repo = self.hub.repos[key] = Repo(said.get("visibility") == "private" or bool(said.get("private")))
        repo.commit({".gitattributes": b"*.parquet filter=lfs\n"})
        self.json({"url": f"{self.hub.url}/{'datasets/' if key[0] == 'dataset' else ''}{key[1]}", "id": key[1]})

    def validate(self, said: dict) -> None:
        found = re.match(r"---\n(.*?)\n---\n", said["content"], re.S)
        try:
            head = yaml.safe_load(found[1]) if found else {}
            wrong = "" if head.get("license", "mit") in LICENSES else '"license" must be one of the known ones'
        except yaml.YAMLError as error:
            wrong = str(error)
        self.json({"errors": [{"message": wrong}] if wrong else [], "warnings": []}, 400 if wrong else 200)

    # ---- sending

    def preupload(self, said: dict, kind: str, name: str, revision: str) -> None:
        self.writer(name.partition("/")[0])
        files = self.repo(kind, name, revision)[0].files
        self.json({"files": [self._mode(one, files) for one in said["files"]]})

    def _mode(self, one: dict, files: dict[str, bytes]) -> dict:
        lfs, there = is_lfs(one["path"], one["size"]), files.get(one["path"])
        oid = None if there is None else hashlib.sha256(there).hexdigest() if lfs else blob_id(there)
        mode = "lfs" if lfs else "regular"
        return {"path": one["path"], "uploadMode": mode, "shouldIgnore": False} | ({"oid": oid} if oid else {})

    def batch(self, said: dict, kind: str | None, name: str) -> None:
        self.writer(name.partition("/")[0])
        self.repo(kind or "model", name)
        objects = []
        for one in said["objects"]:
            to = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}  # signed, on the real one: no token is sent
            objects.append(one | ({} if one["oid"] in self.hub.objects else {"actions": to}))
        self.json({"transfer": "basic", "objects": objects})

    def store(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Refused(400, message="this is not what was announced")
        self.hub.objects[oid] = body
        self.answer(200)

    def commit(self, body: bytes, kind: str, name: str, revision: str) -> None:
        self.writer(name.partition("/")[0])
        repo, sha = self.repo(kind, name, revision)
        files = dict(repo.commits[sha])
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                assert value["encoding"] == "base64"
                content = base64.b64decode(value["content"])
                if is_lfs(value["path"], len(content)) and content:
                    raise _Refused(400, message="this file belongs into LFS")
                files[value["path"]] = content
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise _Refused(400, message="LFS pointer to an object that was not uploaded")
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif item["key"] == "deletedFile":
                if value["path"] not in files:
                    raise _Refused(404, "EntryNotFound", "A file with this name doesn't exist")
                del files[value["path"]]
        made = repo.commit(files)
        self.json(
            {"success": True, "commitOid": made, "commitUrl": f"{self.hub.url}/{name}/commit/{made}", "hookOutput": ""}
        )

    # ---- fetching

    def info(self, _, kind: str, name: str, revision: str | None) -> None:
        repo, sha = self.repo(kind, name, revision)
        siblings = [self._file(path, content, "rfilename", "blobId") for path, content in repo.commits[sha].items()]
        self.json({"id": name, "sha": sha, "private": repo.private, "gated": False, "siblings": siblings, "tags": []})

    def tree(self, _, kind: str, name: str, revision: str, under: str | None) -> None:
        files = self._files(kind, name, revision)
        inside = {path: one for path, one in files.items() if not under or path.startswith(under.rstrip("/") + "/")}
        if under and not inside:
            raise _Refused(404, "EntryNotFound", "no such folder")
        if "recursive=True" not in self.path and "recursive=true" not in self.path:
            deep = len(under.rstrip("/").split("/")) if under else 0
            inside = {p: one for p, one in inside.items() if len(p.split("/")) == deep + 1} | self._folders(
                inside, deep
            )
        self.json(list(inside.values()))

    def paths_info(self, said, kind: str, name: str, revision: str) -> None:
        if isinstance(said, bytes):
            from urllib.parse import parse_qs

            paths = parse_qs(said.decode()).get("paths", [])
        else:
            paths = said["paths"]
        files = self._files(kind, name, revision)
        known = files | self._folders(files, 0) | self._folders(files, 1)
        self.json([known[path.rstrip("/")] for path in paths if path.rstrip("/") in known])

    def _files(self, kind: str, name: str, revision: str) -> dict[str, dict]:
        repo, sha = self.repo(kind, name, revision)
        return {path: {"type": "file"} | self._file(path, content) for path, content in repo.commits[sha].items()}

    def _file(self, path: str, content: bytes, name: str = "path", oid: str = "oid") -> dict:
        lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        lfs["sha256"] = lfs["oid"]  # which of the two names is read depends on what was asked
        entry = {name: path, "size": len(content), oid: blob_id(content)}
        return entry | ({"lfs": lfs} if is_lfs(path, len(content)) else {})

    def _folders(self, files: dict, deep: int) -> dict[str, dict]:
        names = {"/".join(path.split("/")[: deep + 1]) for path in files if len(path.split("/")) > deep + 1}
        return {name: {"type": "directory", "path": name, "oid": blob_id(name.encode())} for name in names}

    def resolve(self, _, kind: str | None, name: str, revision: str, path: str) -> None:
        repo, sha = self.repo(kind or "model", name, revision)
        if path not in repo.commits[sha]:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        content = repo.commits[sha][path]
        if not is_lfs(path, len(content)):
            return self.serve(content, blob_id(content), {"X-Repo-Commit": sha})
        oid = hashlib.sha256(content).hexdigest()
        self.hub.objects[oid] = content
        linked = {"X-Linked-Size": len(content), "X-Linked-Etag": f'"{oid}"', "X-Repo-Commit": sha}
        return self.answer(302, b"", linked | {"Location": f"{self.hub.elsewhere}/lfs/{oid}"})

    def serve(self, content: bytes, etag: str, headers: dict | None = None) -> None:
        headers = {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"} | (headers or {})
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            return self.answer(206, content[start : end + 1], headers)
        return self.answer(200, content, headers)

    def log_message(self, *args) -> None:
        pass


if __name__ == "__main__":  # a Hub to try things by hand: token "hf_writer_of_org", account "org"
    with Hub() as hub:
        hub.accounts["hf_writer_of_org"] = Account("org")
        print(hub.url, flush=True)
        time.sleep(3600)
