"""What stands before everything else on a public server: it finds out who a request comes from, and turns away what is
too large, too often, from another site's page, or at no door that visitors are meant to use.

A plain ASGI middleware. What a caller may do behind it is told by lightreasoner/serving/permissions.py.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.responses import PlainTextResponse

from lightreasoner.serving.permissions import User, is_owner
from lightreasoner.serving.quotas import VisitorRateLimit
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import ID_PATTERN, folder_bytes, new_id
from ui.access.cookies import OWNER_COOKIE, ROLE_COOKIE, VISITOR_COOKIE, YEAR, read_cookies, set_cookie
from ui.access.sign_in import SignIn
from ui.access.visitors import SCOPE_KEY
from ui.compat.gradio import oauth_info

API = "/gradio_api"
#: The only places that take anything but GET; whatever else Gradio has or will have is closed.
POSTS = re.compile(
    rf"{API}/(queue/join|component_server|upload|cancel|reset|(run|api|call|call/v2)/[\w.-]+)/?|/sign-(in|out)"
)
#: Places of Gradio's that nobody needs here.
CLOSED = re.compile(rf"({API})?/(monitoring|deep_link|proxy=|dev/|process_recording|runs\b|run-history|profiling|vibe)")
JSON_BYTES = 1_000_000  # of an event or a call
CALLS_A_MINUTE = 300  # of one visitor; selecting steps as fast as a hand can stays below it
SESSIONS = 20_000  # of which it is remembered whose they are


class Rejected(Exception):
    """A request that goes no further: (HTTP status, a sentence)."""


class AccessMiddleware:
    def __init__(self, app: Any, settings: Settings, sign_in: SignIn, uploads: Path):
        self.app, self.settings, self.sign_in, self.uploads = app, settings, sign_in, uploads
        self._calls = VisitorRateLimit(CALLS_A_MINUTE, 60)
        self._uploads = VisitorRateLimit(settings.uploads_an_hour, 3600)
        self._sessions: OrderedDict[str, str] = OrderedDict()  # Gradio's session → who opened it

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # there are no WebSockets here
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        cookies = read_cookies(headers.get("cookie", ""))
        scope[SCOPE_KEY] = visitor = self.visitor(scope, headers, cookies)
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/")) or "/"
        began = False

        async def answer(message: dict) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                more = self.cookies(scope, visitor, cookies) if path == "/" else []
                message["headers"] = [*message["headers"], *headers_of_all(), *more]
            await send(message)

        try:
            receive = await self.checked(scope, path, headers, visitor, receive)
            await self.app(scope, receive, answer)
        except Rejected as refused:
            if not began:  # else the connection just ends
                status, sentence = refused.args
                await PlainTextResponse(sentence, status_code=status)(scope, receive, answer)

    def visitor(self, scope: dict, headers: dict, cookies: dict) -> User:
        """Who calls. A cookie is only an id to count by; the owner is who has signed in."""
        known = cookies.get(VISITOR_COOKIE, "")
        id = known if ID_PATTERN.fullmatch(known) else ""
        names = oauth_names(scope) if self.sign_in.oauth else []
        owner = is_owner(names, self.settings) or self.sign_in.knows(cookies.get(OWNER_COOKIE, ""))
        return User(id, names[0] if names else None, owner, address_of(scope, headers))

    def cookies(self, scope: dict, visitor: User, cookies: dict) -> list[tuple[bytes, bytes]]:
        """The page brings an id for who has none, and tells its script which parts to show. That is only looks."""
        found = [set_cookie(scope, ROLE_COOKIE, "owner" if visitor.owner else "visitor", YEAR, script=True)]
        if not visitor.id:
            found.append(set_cookie(scope, VISITOR_COOKIE, new_id(), YEAR))
        return [(b"set-cookie", cookie.encode("latin-1")) for cookie in found]

    async def checked(self, scope: dict, path: str, headers: dict, visitor: User, receive: Any) -> Any:
        """`receive` for the app, with a body that is not too long. Raises Refused."""
        if CLOSED.match(path):
            raise Rejected(404, "There is nothing here.")
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            self.check_session(visitor, listened_to(scope, path))
            return receive
        if scope["method"] != "POST" or not POSTS.fullmatch(path):
            raise Rejected(405, "Nothing can be sent here.")
        if not same_site(headers):
            raise Rejected(403, "This came from another site's page; open this one itself.")
        if not visitor.owner and not self._calls.allow(visitor):
            raise Rejected(429, "Too many requests in a minute; wait a little.")
        if path.startswith(f"{API}/upload"):
            return self.upload(visitor, headers, receive)
        body = await whole(receive, JSON_BYTES)
        if path.startswith(API):
            said = read_json(body)
            self.check_session(visitor, said.get("session_hash") if isinstance(said, dict) else None)
            if names_address(said):
                raise Rejected(400, "A file has to be uploaded; nothing is fetched from an address.")
        return replayed(body, receive)

    def upload(self, visitor: User, headers: dict, receive: Any) -> Any:
        most = self.settings.max_upload_mb * 1_000_000 + 100_000  # and what the form around a file takes
        if int_of(headers.get("content-length")) > most:
            raise Rejected(413, f"That is too large; a file may have {self.settings.max_upload_mb} MB.")
        if not visitor.owner:
            if not self._uploads.allow(visitor):
                raise Rejected(429, "Too many uploads in an hour; try again later.")
            if folder_bytes(self.uploads) + most > self.settings.kept_uploads_mb * 1_000_000:
                raise Rejected(507, "There is no room for uploads just now; try again in an hour.")
        return counted(receive, most)

    def check_session(self, visitor: User, session: object) -> None:
        """A session of Gradio's belongs to whoever used its name first. Raises Refused."""
        if session is None:
            return
        if not isinstance(session, str) or len(session) > 100:
            raise Rejected(400, "That is no session.")
        who = visitor.id or f"address {visitor.address}"
        first = self._sessions.setdefault(session, who)
        self._sessions.move_to_end(session)
        while len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        # who has just got a cookie may have opened the session without one
        if first != who and first != f"address {visitor.address}":
            raise Rejected(403, "This session is somebody else's; load the page again.")


def headers_of_all() -> list[tuple[bytes, bytes]]:
    """What every answer tells the browser: text is what it says it is, addresses (a trace's is its key) are not told to
    other sites, and no other site may show the page in a frame of its own; on Spaces, Hugging Face does."""
    frames = "'self' https://huggingface.co" if "SPACE_ID" in os.environ else "'self'"
    return [
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
        (b"content-security-policy", f"frame-ancestors {frames}; object-src 'none'; base-uri 'self'".encode()),
    ]


def address_of(scope: dict, headers: dict) -> str:
    """The network address of the caller. Behind the proxies of Spaces it is the last public one that they noted; what
    stands left of it the caller may have made up. Elsewhere the server itself heeds a proxy on this machine, and those
    that FORWARDED_ALLOW_IPS names."""
    if "SPACE_ID" in os.environ:
        for noted in reversed(headers.get("x-forwarded-for", "").split(",")):
            try:
                if ipaddress.ip_address(noted.strip()).is_global:
                    return noted.strip()
            except ValueError:
                break
    return (scope.get("client") or ("unknown",))[0]


def oauth_names(scope: dict) -> list[str]:
    """The name and the organisations of who signed in with Hugging Face, from Gradio's own signed session."""
    profile = oauth_info(scope.get("session") or {}).get("userinfo") or {}
    names = [profile.get("preferred_username")]
    names += [org.get("preferred_username") for org in profile.get("orgs") or () if isinstance(org, dict)]
    return [name for name in names if isinstance(name, str)]


def same_site(headers: dict) -> bool:
    """Whether a browser sent this from our own page. A page of another site cannot hide that it did; programs that are
    no browsers send no origin, and have no cookies of anybody's to misuse."""
    if headers.get("sec-fetch-site") == "cross-site":
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    own = {headers.get("host"), headers.get("x-forwarded-host", "").split(",")[0].strip()}
    try:
        named = urlsplit(origin).netloc
    except ValueError:  # of a half bracket
        return False
    return bool(named) and named in own


def listened_to(scope: dict, path: str) -> str | None:
    """The session whose answers a GET would read, or whose end it would be."""
    if path.startswith(f"{API}/queue/data"):
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [None])[-1]
    return path.rpartition("/")[2] if path.startswith(f"{API}/heartbeat/") else None


def read_json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None  # Gradio says what is wrong with it


def names_address(said: object) -> bool:
    """Whether a file in it is an address. Gradio would fetch it, for anybody, of any size, before any rule is asked."""
    waiting = [said]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if "://" in str(item.get("path", ""))[:200]:
                return True
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return False


def int_of(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


async def whole(receive: Any, most: int) -> bytes:
    """The body. Raises Refused when it is too long."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Rejected(400, "The request ended early.")
        body += message.get("body", b"")
        if len(body) > most:
            raise Rejected(413, f"That is too large; {most:,} bytes are read.")
        if not message.get("more_body"):
            return body


def replayed(body: bytes, receive: Any) -> Any:
    """`receive` once more, for a body that has been read."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> dict:
        return waiting.pop() if waiting else await receive()

    return again


def counted(receive: Any, most: int) -> Any:
    """`receive` for a body that is read while it comes. Raises Refused when it is too long."""
    seen = 0

    async def next_part() -> dict:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise Rejected(413, f"That is too large; {most:,} bytes are read.")
        return message

    return next_part
