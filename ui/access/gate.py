"""The outermost ASGI middleware, of private and public servers: refuses other hosts, other sites' pages and unknown
routes before anything else reads a request, and sets the headers of every response.

Gradio's own CORS middleware lets any name read what it serves under that name; no response leaves with its headers.
"""

import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.responses import PlainTextResponse

from lightreasoner.serving.log import log_line
from lightreasoner.settings import Settings
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
    rf"({API})?/(monitoring|deep_link|proxy=|dev/|process_recording|runs\b|run-history|profiling|vibe)"
)
#: Routes that hold data, not pages: a link in another site must not lead there.
DATA_ROUTES = re.compile(rf"({API}|/downloads)\b")


class Rejected(Exception):
    """A rejected request, with the arguments HTTP status and message."""


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

        async def send_with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                kept = [(k, v) for k, v in message["headers"] if not k.lower().startswith(b"access-control-")]
                message["headers"] = kept + self.headers
            await send(message)

        scope, forwarded_host = self.behind_proxy(scope)
        try:
            check_request(scope, forwarded_host, self.hosts)
        except Rejected as rejection:
            status, message = rejection.args
            log_line(f"refused {status}: {scope['method']} {scope['path'][:80]!a}: {message}")
            await PlainTextResponse(message, status_code=status)(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def behind_proxy(self, scope: dict) -> tuple[dict, str | None]:
        """The request with the client's address and scheme as a trusted proxy tells them, and the host that it tells.
        What nobody trusted wrote is removed."""
        peer = (scope.get("client") or ("unknown", 0))[0]
        if not self.proxies.trusts(peer):
            return scope | {"headers": [(k, v) for k, v in scope["headers"] if k.lower() not in FORWARDED]}, None
        told = {name: ",".join(values_of(scope, name)) for name in FORWARDED}
        address = self.proxies.client_address(peer, told[b"x-forwarded-for"])
        scheme = told[b"x-forwarded-proto"].split(",")[0].strip()
        scheme = scheme if scheme in ("http", "https") else scope.get("scheme", "http")
        host = told[b"x-forwarded-host"].split(",")[0].strip()
        headers = [(k, v) for k, v in scope["headers"] if k.lower() != b"x-gradio-server"]
        return scope | {"client": (address, 0), "scheme": scheme, "headers": headers}, host or None


def check_request(scope: dict, forwarded_host: str | None, hosts: AllowedHosts) -> None:
    """Raises Rejected for a request to another host, of another site's page, or to a route that is closed."""
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
    """All values of a header."""
    return [value.decode("latin-1") for known, value in scope["headers"] if known.lower() == name]


def route_of(scope: dict) -> str:
    """The path of a request without the server's prefix."""
    return scope["path"].removeprefix(scope.get("root_path", "").rstrip("/")) or "/"


def security_headers(hosts: str) -> list[tuple[bytes, bytes]]:
    """Headers of every response: browsers must not guess content types, must not send addresses (which hold the ids of
    traces) to other sites, and must not show the page in another site's frame, except in Hugging Face's on Spaces and
    in those of the setting `hosts`."""
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
