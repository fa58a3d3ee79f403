"""The outermost ASGI middleware: refuses other hosts, other sites' pages and unknown routes, on every server.

It does so before anything else reads a request. It sets the headers of every response, and answers for what fails
behind it.
Gradio's own CORS middleware lets any name read what it serves under that name; no response leaves with its headers.
"""

import errno
import json
import os
import re
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse

from lightreasoner.errors import disk_trouble, first_line, log_unexpected
from lightreasoner.serving.log import log_line
from lightreasoner.settings import ROOT, Settings
from ui.access.origins import AllowedHosts, Host, allowed_hosts, frame_sources, from_own_page, is_page_load, parse_host
from ui.access.proxies import FORWARDED, Proxies, trusted_proxies

API = "/gradio_api"
JSON, UPLOAD, FORM = "application/json", "multipart/form-data", "application/x-www-form-urlencoded"
#: The only routes that accept other methods than GET, and the content type that each reads.
POST_ROUTES = (
    (re.compile(rf"{API}/(queue/join|component_server|cancel|reset|(run|api|call|call/v2)/[\w.-]+)/?"), JSON),
    (re.compile(rf"{API}/upload/?"), UPLOAD),
    (re.compile(r"/sign-(in|out)"), FORM),
)
#: Routes of Gradio that the page does not use.
CLOSED_ROUTES = re.compile(
    rf"({API})?/(monitoring|deep_link|proxy=|dev/|process_recording|runs\b|run-history|profiling|vibe|custom_component)"
)
#: Routes that hold data, not pages: a link in another site must not lead there.
DATA_ROUTES = re.compile(rf"({API}|/downloads)\b")
MAX_ADDRESS, MAX_HEADERS = 8_000, 32_000  # bytes of the path and query, and of all headers
#: Files that every request passes; any other of ours in a traceback means that our code failed.
PASSED = {ROOT / "ui" / "access" / name for name in ("gate.py", "middleware.py", "messages.py")}


class Rejected(Exception):
    """A rejected request, with the arguments HTTP status and message."""


class Answer:
    """`send` for one request: adds the headers, and keeps a response of status 500 back until it is clear why."""

    def __init__(self, send: Any, headers: list[tuple[bytes, bytes]], path: str):
        self._send, self._headers, self._path = send, headers, path
        self._kept: list[dict] = []
        self._started = False

    async def __call__(self, message: dict) -> None:
        if message["type"] == "http.response.start":
            kept = [(k, v) for k, v in message["headers"] if not k.lower().startswith(b"access-control-")]
            message["headers"] = kept + self._headers
        if self._kept or message.get("status") == 500:
            self._kept.append(message)
            return
        self._started = True
        await self._send(message)

    async def finish(self) -> None:
        """Send what was kept. Gradio answers a refusal by an event of the page with 500 and its sentence."""
        if self._kept and self._path.startswith((f"{API}/run/", f"{API}/api/")):
            body = b"".join(part.get("body", b"") for part in self._kept)
            with suppress(ValueError, RecursionError):
                self._kept[0]["status"] = 400 if json.loads(body)["error"] else 500
        for message in self._kept:
            await self._send(message)

    async def fail(self, scope: dict, status: int, sentence: str, why: str) -> None:
        """Answer a request that failed, unless the answer has begun; then end it."""
        if why:
            log_line(f"refused {status}: {scope['method']} {scope['path'][:80]!a}: {why}")
        self._kept = []
        if self._started:
            with suppress(Exception):  # a length that was promised cannot be kept any more
                await self._send({"type": "http.response.body", "body": b""})
            return
        if self._path.startswith(API):  # the page's scripts show either of these fields
            response = JSONResponse({"error": sentence, "detail": sentence}, status)
        else:
            response = PlainTextResponse(sentence, status)
        for message in response_messages(response, scope["method"]):
            if message["type"] == "http.response.start":
                message["headers"] += self._headers
            await self._send(message)


def response_messages(response: PlainTextResponse | JSONResponse, method: str) -> list[dict]:
    """The ASGI messages of a whole response."""
    start = {"type": "http.response.start", "status": response.status_code, "headers": list(response.raw_headers)}
    return [start, {"type": "http.response.body", "body": b"" if method == "HEAD" else response.body}]


def failure_of(error: Exception) -> tuple[int, str, str]:
    """Status, sentence for the client, and the log's line ("" if there is one already) for what a request raised.
    Gradio checks little of what it reads: what fails in it is the request's fault, what fails in our code is a bug."""
    if isinstance(error, Rejected):
        status, sentence = error.args
        return status, sentence, sentence
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    files = {Path(code.co_filename) for code in frames}
    own = {file for file in files if file.is_relative_to(ROOT / "ui") or file.is_relative_to(ROOT / "lightreasoner")}
    if own - PASSED:
        return 500, log_unexpected("a request"), ""
    why = f"{type(error).__name__} in {frames[-1].co_name}: {first_line(error)!a}"
    broken = getattr(error, "errno", None) == errno.EIO
    if trouble := disk_trouble(error, "Free some space and try again.", writing=broken):
        return 507, f"This could not be written: {trouble}", why
    return 400, "This request cannot be served; see /gradio_api/info for what can.", why


class Gate:
    """See the module. `hosts` and `proxies` are those of the server's settings."""

    def __init__(self, app: Any, hosts: AllowedHosts, proxies: Proxies, headers: list[tuple[bytes, bytes]]):
        self.app, self.hosts, self.proxies, self.headers = app, hosts, proxies, headers

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":  # the server has none
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        answer = Answer(send, self.headers, route_of(scope))
        try:
            scope, forwarded_host = self.behind_proxy(scope)
            check_request(scope, forwarded_host, self.hosts)
            await self.app(scope, receive, answer)
            await answer.finish()
        except ClientDisconnect:  # in the middle of its own request
            pass
        except Exception as error:
            await answer.fail(scope, *failure_of(error))

    def behind_proxy(self, scope: dict) -> tuple[dict, str | None]:
        """(the request with the client's address and scheme as a trusted proxy names them, the host that it names).

        What others wrote into these headers is removed.
        """
        peer = (scope.get("client") or ("unknown", 0))[0]
        if not self.proxies.trusts(peer):
            return scope | {"headers": [(k, v) for k, v in scope["headers"] if k.lower() not in FORWARDED]}, None
        forwarded = {name: ",".join(values_of(scope, name)) for name in FORWARDED}
        address = self.proxies.client_address(peer, forwarded[b"x-forwarded-for"])
        scheme = forwarded[b"x-forwarded-proto"].split(",")[0].strip()
        scheme = scheme if scheme in ("http", "https") else scope.get("scheme", "http")
        host = forwarded[b"x-forwarded-host"].split(",")[0].strip()
        headers = [(k, v) for k, v in scope["headers"] if k.lower() != b"x-gradio-server"]
        return scope | {"client": (address, 0), "scheme": scheme, "headers": headers}, host or None


def check_request(scope: dict, forwarded_host: str | None, hosts: AllowedHosts) -> None:
    """Raises Rejected for a request to another host, of another site's page, or to a route that is closed."""
    address = scope["path"] + scope.get("query_string", b"").decode("latin-1")
    if len(address) > MAX_ADDRESS or sum(len(k) + len(v) for k, v in scope["headers"]) > MAX_HEADERS:
        raise Rejected(431, "The address or the headers are too long; shorten them.")
    if not scope["path"].isprintable() or not scope["path"].startswith("/"):
        raise Rejected(400, "The address holds characters that no address of this server has.")
    own = [check_host(values_of(scope, b"host"), hosts)]
    if forwarded_host:
        own.append(check_host([forwarded_host], hosts))
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    path = route_of(scope)
    allowed_load = is_page_load(scope["method"], headers) and not DATA_ROUTES.match(path)
    if not allowed_load and (len(values_of(scope, b"origin")) > 1 or not from_own_page(headers, own, hosts)):
        raise Rejected(403, "This request came from another site; open this page directly.")
    if CLOSED_ROUTES.match(path):
        raise Rejected(404, "This route does not exist.")
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return
    wanted = next((kind for route, kind in POST_ROUTES if route.fullmatch(path)), None)
    if scope["method"] != "POST" or not wanted:
        raise Rejected(405, "This route accepts GET requests only.")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != wanted:
        raise Rejected(415, f"This route reads {wanted} only; send that Content-Type.")


def check_host(given: list[str], hosts: AllowedHosts) -> Host:
    """The host that a request names. Raises Rejected."""
    host = parse_host(given[0]) if len(given) == 1 else None
    if not host:
        raise Rejected(400, "The request names no valid host; send one Host header.")
    if host not in hosts:
        raise Rejected(
            403,
            f"This server does not answer to the name {host.name[:80]}. If that is its name, start it with "
            f"LIGHTREASONER_HOSTS={host.name[:80]}.",
        )
    return host


def values_of(scope: dict, name: bytes) -> list[str]:
    return [value.decode("latin-1") for known, value in scope["headers"] if known.lower() == name]


def route_of(scope: dict) -> str:
    """The path of a request without the server's prefix."""
    return scope["path"].removeprefix(scope.get("root_path", "").rstrip("/")) or "/"


def security_headers(hosts: str) -> list[tuple[bytes, bytes]]:
    """Headers of every response: browsers must not guess content types, nor send addresses to other sites.

    Addresses hold the ids of traces. No other site may show the page in a frame, except those of the setting `hosts`,
    and Hugging Face's on Spaces.
    """
    frames = ["'self'", *(["https://huggingface.co"] if "SPACE_ID" in os.environ else []), *frame_sources(hosts)]
    return [
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
        (
            b"content-security-policy",
            f"frame-ancestors {' '.join(frames)}; object-src 'none'; base-uri 'self'".encode(),
        ),
    ]


def gated(settings: Settings, listening: str) -> Callable:
    """A lifespan that puts the gate in front of all of the app's middleware, Gradio's included, before the first
    request. Raises UserError for settings that cannot be read."""
    space = "SPACE_ID" in os.environ
    hosts = allowed_hosts(listening, settings.hosts, os.environ.get("SPACE_HOST", "") if space else None)
    proxies = trusted_proxies(settings.proxies, space)
    headers = security_headers(settings.hosts)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        app.middleware_stack = Gate(app.middleware_stack, hosts, proxies, headers)
        yield

    return lifespan


def require_gate(app: Any) -> None:
    """Raises RuntimeError if the gate is not the first to see a request."""
    if not isinstance(app.middleware_stack, Gate):
        raise RuntimeError("Requests are not checked; see ui/access/gate.py.")
