"""Hostile HTTP requests from a seed, to a server in this process: none may fail it, fill its log or leave a trace.

    python -m benchmarks.hostile [--minutes 5] [--seed 1] [--public]

Prints what was answered, and every request that was answered with a status of 5xx, with a long error or with the
server's paths, or that wrote a traceback or a long line to the log. More lines than requests, and a file that came into
being (a job has one), are errors, too.
"""

import argparse
import json
import os
import random
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_ANSWER, LONGEST_LINE = 1_000, 400  # bytes of a refusal, characters of a line of the log
WAIT = 0.3  # seconds for the next part of an answer; streams do not end by themselves
TEXTS = ["", " ", "a", "\0", "\ud800", "\udfff x", "../../etc/passwd", "/etc/passwd", "%00", "é" * 50, "x" * 5_000]
TEXTS += ["\u202e{{7*7}}${8*8}", "<script>", "-1", "NaN", "null", "__init__", "__class__", "a\r\nSet-Cookie: x=y"]
NUMBERS = [0, -1, 1, 2**31, 2**63, 10**400, -(10**30), 0.5, 1e308, float("nan"), float("inf"), float("-inf")]
FILES = [
    {"path": path, "meta": {"_type": "gradio.FileData"}}
    for path in ("/etc/passwd", "a\0b", "", "http://[", 7, "\ud800")
]
VALUES = [None, True, False, [], {}, [[]], [None] * 30, {"a": 1}, {"path": {}}, {"value": "x"}]
VALUES += TEXTS + NUMBERS + FILES
words = str.split
FIELDS = words("""data session_hash fn_index trigger_id event_id event_data component_id fn_name simple_format batched
oauth_token request batch_trigger_ids __proto__""")
MESSAGES = words("""queue/join run/predict run/trace api/trace call/trace call/v2/trace cancel reset component_server
component_server component_server""")
ROUTES = words("""queue/data queue/status info startup-events upload_progress file= file=uploads/ stream/a/b/x/c.ts
stream/a/b/1/playlist.m3u8 heartbeat/x theme.css proxy= custom_component/1/client/x/y call/trace/x openapi.json
login_check user token app_id""")
PAGES = words("""config favicon.ico manifest.json robots.txt static/ assets/ svelte/ pwa_icon/1 downloads/ downloads/x
sign-in sign-out scripts/ healthz theme.css logout login/x""")
SEGMENTS = words(r"""..%2f..%2fetc/passwd %2e%2e/%2e%2e/etc/passwd %00 %0d%0a %ff%fe %ed%a0%80 //x % ?session_hash=
?session_hash=%00 ?upload_id=x ;x \..\x""")
SEGMENTS += ["a" * 300, "x" * 9_000, "?" + "a=b&" * 3_000]
METHODS = ["GET"] * 15 + ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "POST", "get", "X" * 40]
RANGES = ("bytes=0-", "bytes=-1", "bytes=9-1", "bytes=a-b", "bytes=" + "0-1," * 500, "x")
HEADERS = [("Range", value) for value in RANGES]
HEADERS += [("Cookie", "lr_owner=\xff; lr_visitor=../x; a"), ("Cookie", "=" * 3_000), ("Accept-Language", "\xe9" * 100)]
HEADERS += [("If-None-Match", '"'), ("If-Modified-Since", "x"), ("X-Forwarded-For", "a, b,,"), ("Referer", "\xff")]
HEADERS += [("X-Forwarded-Host", "a b"), ("X-Forwarded-Proto", "gopher"), ("X-Gradio-Server", "http://a")]
HEADERS += [("Authorization", "Basic =="), ("Content-Encoding", "gzip"), ("Expect", "100-continue")]
HEADERS += [("Upgrade", "websocket"), ("Big", "x" * 70_000)]
LINES = [
    b"",
    b"GET",
    b"GET / HTTP/9.9",
    b"\x16\x03\x01\x02\x00",
    b"GET  / HTTP/1.1",
    b"GET /\x00 HTTP/1.1",
    b"GET http://x/ HTTP/1.1",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b",
    b"GET / HTTP/1.1\r\nHost : x",
    b"GET / HTTP/1.1\r\n x",
    b"POST / HTTP/1.1\r\nContent-Length: -1",
    b"POST /gradio_api/queue/join HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
]


class Requests:
    """Requests to a page, as bytes. events: ids of its events. calls: (component id, function) that scripts call."""

    def __init__(self, seed: int, host: str, events: list[int], calls: list[tuple[int, str]]):
        self._random, self._host, self._events, self._calls = random.Random(seed), host, events, calls
        self._address = ""  # of the client, as a proxy tells it; one each, so that no limit ends it all

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self._address = f"203.0.{self._random.randrange(256)}.{self._random.randrange(256)}"
            kind = self._random.choices((self._message, self._get, self._upload, self._garbage), (60, 25, 10, 5))[0]
            yield kind()

    def _request(self, method: str, path: str, body: bytes, *headers: tuple[str, str]) -> bytes:
        given = [("Host", self._host), ("Connection", "close"), ("X-Forwarded-For", self._address), *headers]
        if body:
            given += [("Content-Length", str(len(body)))]
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given), "", ""]
        return "\r\n".join(lines).encode("utf-8" if method == "POST" else "latin-1", "replace") + body

    def _value(self, depth: int = 0) -> object:
        pick = self._random
        if depth < 2 and pick.random() < 0.1:
            return [self._value(depth + 1) for _ in range(pick.randrange(6))]
        return pick.choice(VALUES)

    def _message(self) -> bytes:
        """A message of the page's scripts of which some fields are wrong; sometimes as broken JSON."""
        pick = self._random
        component, function = pick.choice(self._calls)
        values = [self._value() for _ in range(pick.choice((0, 1, 2, 5, 12, 25, 40)))]
        message = {"data": values, "session_hash": f"of-{self._address}", "fn_index": pick.choice(self._events)}
        message["event_data"] = {}
        route = pick.choice(MESSAGES)
        if route == "component_server":
            message |= {"component_id": component, "fn_name": function, "data": [values]}
        for field in pick.sample(FIELDS, pick.choice((0, 1, 1, 2, 4))):
            message[field] = self._value()
            if pick.random() < 0.3:
                del message[field]
        body = json.dumps(message).encode()
        if pick.random() < 0.2:
            body = self._broken(body)
        path = f"/gradio_api/{route}{pick.choice(('', '', '', '/', '/x', '?x=%00'))}"
        kinds = ("application/json",) * 20 + ("application/json; charset=\xff", "text/plain", "")
        return self._request("POST", path, body, ("Content-Type", pick.choice(kinds)))

    def _broken(self, body: bytes) -> bytes:
        pick = self._random
        deep = b'{"data": ' + b"[" * 3_000 + b"]" * 3_000 + b"}"
        less = b'{"session_hash": "s", "fn_index": 1, "data": [' + b"[" * 200 + b"]" * 200 + b"]}"
        ways = [body[: len(body) // 2], body + b"}", body.replace(b":", b"", 1), b"\xff" + body, b"\xef\xbb\xbf" + body]
        ways += [body.decode().encode("utf-16"), body[:-1] + b', "fn_index": 1, "fn_index": {}}']
        ways += [body[:-1] + b', "data": NaN}', deep, less, b"[" * 100_000, b"1" * 6_000, pick.randbytes(50)]
        return pick.choice([*ways, b"null", b"7", b'"x"', b"[]", b"{}", b" "])

    def _get(self) -> bytes:
        pick = self._random
        start = (
            f"/gradio_api/{pick.choice(MESSAGES + ROUTES)}" if pick.random() < 0.5 else f"/{pick.choice(['', *PAGES])}"
        )
        path = start + pick.choice(("", "", "/")) + (pick.choice(SEGMENTS) if pick.random() < 0.6 else "")
        headers = pick.sample(HEADERS, pick.choice((0, 1, 1, 2)))
        return self._request(pick.choice(METHODS), path, b"", *headers)

    def _upload(self) -> bytes:
        """No such form may leave a file: its boundary, its end, its field or its headers are wrong."""
        pick = self._random
        fields = ('name="file"; filename="a"', "", 'name="files"', 'name="\xff"; filename="\0"', "name=" + "x" * 9_000)
        part = f"--b\r\nContent-Disposition: form-data; {pick.choice(fields)}\r\n\r\n".encode("latin-1")
        part += b"x" * pick.choice((0, 10, 4_000))
        body = pick.choice((part, part + b"\r\n--b--\r\n", part + b"\r\n--b", b"--b--\r\n", b"", pick.randbytes(200)))
        kinds = ("multipart/form-data; boundary=b",) * 4 + ("multipart/form-data", "multipart/form-data; boundary=c")
        kinds += ("multipart/form-data; boundary=b; charset=no-such", "multipart/form-data; boundary=" + "b" * 3_000)
        query = pick.choice(("", "", "?upload_id=x", "?upload_id=%00"))
        request = self._request("POST", f"/gradio_api/upload{query}", body, ("Content-Type", pick.choice(kinds)))
        return request if pick.random() < 0.8 else request[: -max(1, len(body) // 2)]  # cut off

    def _garbage(self) -> bytes:
        rest = f"\r\nHost: {self._host}\r\nConnection: close\r\n\r\n".encode()
        return self._random.choice(LINES) + (b"" if self._random.random() < 0.2 else rest)


def exchange(address: tuple[str, int], request: bytes) -> tuple[int, bytes]:
    """(status, body) of the answer to a request, (0, b"") if there is none."""
    answer = b""
    with socket.create_connection(address, timeout=30) as connection:
        try:
            connection.sendall(request)
            connection.settimeout(WAIT)
            while part := connection.recv(65_536):
                answer += part
                if b"text/event-stream" in answer[:2_000] and b"\r\n\r\n" in answer:
                    break
        except OSError:
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1.\d (\d{3})", head)
    return int(status[1]) if status else 0, body


def faults(status: int, body: bytes, logged: str, secret: str) -> list[str]:
    """What is wrong with the answer to a hostile request, given what was written to the log meanwhile."""
    wrong = []
    if status >= 500:
        wrong.append(f"status {status}")
    if status >= 400 and len(body) > LONGEST_ANSWER:
        wrong.append(f"an answer of {len(body):,} bytes to a refused request")
    if b"Traceback" in body or secret.encode() in body:
        wrong.append("the answer tells paths or code")
    if "Traceback" in logged or any(len(line) > LONGEST_LINE for line in logged.splitlines()):
        wrong.append(f"{len(logged):,} characters in the log")
    return wrong


@contextmanager
def serving(workspace: Path, host: str = "127.0.0.1", **settings: object) -> Iterator[tuple[object, tuple]]:
    """The app on a free port of this process: (its page, (host, port))."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(workspace / "uploads")}
    from lightreasoner.serving.listen_address import bracketed
    from lightreasoner.settings import Settings
    from ui.page import build, launch_options
    from ui.studio import Studio

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    chosen = Settings(workspace=workspace, device="cpu", **settings)
    page = build(Studio(chosen))
    where = {"server_name": bracketed(host), "server_port": port}
    page.launch(**where, quiet=True, prevent_thread_lock=True, **launch_options(chosen, bracketed(host)))
    try:
        yield page, (host, port)
    finally:
        page.close(verbose=False)


def requests_to(page: object, address: tuple[str, int], seed: int) -> Iterator[bytes]:
    """Hostile requests to this page, without end."""
    from lightreasoner.serving.listen_address import bracketed

    calls = [
        (id, name)
        for id, block in page.blocks.items()
        for name in dir(type(block)) + list(vars(block))
        if getattr(getattr(block, name, None), "_is_server_fn", False)
    ]
    return iter(Requests(seed, f"{bracketed(address[0])}:{address[1]}", sorted(page.fns), calls))


def files_in(workspace: Path) -> set[str]:
    """The files of a workspace, but not what SQLite writes beside a list of jobs that is only read."""
    return {str(path) for path in workspace.rglob("*") if path.is_file() and not path.name.startswith("jobs.sqlite")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--public", action="store_true", help="a public server, on which visitors have limits")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w+b", buffering=0) as log:
        workspace, answered, wrong, seen, lines = Path(folder) / "studio", Counter(), Counter(), 0, 0
        os.dup2(log.fileno(), 2)
        with serving(workspace, public=options.public) as (page, address):
            before, until = files_in(workspace), time.monotonic() + options.minutes * 60
            for number, request in enumerate(requests_to(page, address, options.seed)):
                if time.monotonic() > until:
                    break
                status, body = exchange(address, request)
                answered[status] += 1
                logged = os.pread(log.fileno(), 1_000_000, seen).decode(errors="replace")
                seen, lines = seen + len(logged.encode()), lines + logged.count("\n")
                for fault in faults(status, body, logged, folder):
                    wrong[re.sub(r"[\d,]+", "N", fault)] += 1
                    print(f"{number}: {fault}: {request[:300]!r} … {request[-200:]!r}\n   {body[:200]!r}")
                    print(logged[-1500:], flush=True)
            time.sleep(1)  # for what was queued
            new = sorted(files_in(workspace) - before)
    print(f"{number:,} requests, {lines:,} lines ({seen:,} bytes) of log; answers: {dict(sorted(answered.items()))}")
    print(f"wrong: {dict(wrong) or 'nothing'}; {len(new)} new files {new[:3]}")
    sys.exit(bool(wrong or new or lines > number))


if __name__ == "__main__":
    main()
