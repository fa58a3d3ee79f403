"""The ASGI middleware of a public server: identifies the user behind a request that has passed the gate, and rejects
oversized and too frequent ones.

lightreasoner/serving/permissions.py decides what the user may do behind it.
"""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from lightreasoner.serving.permissions import User, is_owner
from lightreasoner.serving.quotas import VisitorRateLimit
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import ID_PATTERN, folder_bytes, new_id
from ui.access.actions import SCOPE_KEY
from ui.access.cookies import OWNER_COOKIE, ROLE_COOKIE, VISITOR_COOKIE, YEAR, read_cookies, set_cookie
from ui.access.gate import API, Rejected, route_of
from ui.access.messages import read_body, replay_body, values_within
from ui.access.sign_in import SignIn
from ui.compat.gradio import oauth_info

MAX_JSON_BYTES = 1_000_000  # of an event or a call
CALLS_PER_MINUTE = 300  # of one visitor; enough for selecting steps with the arrow keys
MAX_SESSIONS = 20_000  # whose owners are remembered


class AccessMiddleware:
    """See the module. `uploads` is the folder in which Gradio stores uploaded files."""

    def __init__(self, app: Any, settings: Settings, sign_in: SignIn, uploads: Path):
        self.app, self.settings, self.sign_in, self.uploads = app, settings, sign_in, uploads
        self._calls = VisitorRateLimit(CALLS_PER_MINUTE, 60)
        self._uploads = VisitorRateLimit(settings.uploads_per_hour, 3600)
        self._sessions: OrderedDict[str, str] = OrderedDict()  # Gradio session → the visitor who opened it

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        cookies = read_cookies(headers.get("cookie", ""))
        scope[SCOPE_KEY] = user = self.user(scope, cookies)
        path = route_of(scope)

        async def send_with_cookies(message: dict) -> None:
            if message["type"] == "http.response.start" and path == "/":
                message["headers"] = [*message["headers"], *self.new_cookies(scope, user)]
            await send(message)

        receive = await self.check(scope, path, headers, user, receive)
        await self.app(scope, receive, send_with_cookies)

    def user(self, scope: dict, cookies: dict) -> User:
        """The user behind a request. The visitor's cookie only counts requests; the owner is known by the sign-in."""
        known = cookies.get(VISITOR_COOKIE, "")
        id = known if ID_PATTERN.fullmatch(known) else ""
        names = oauth_names(scope) if self.sign_in.oauth else []
        owner = is_owner(names, self.settings) or self.sign_in.is_signed_in(cookies.get(OWNER_COOKIE, ""))
        return User(id, names[0] if names else None, owner, (scope.get("client") or ("unknown",))[0])

    def new_cookies(self, scope: dict, user: User) -> list[tuple[bytes, bytes]]:
        """Cookies for the page: an id, if the visitor has none, and the role, by which the script hides parts."""
        cookies = [set_cookie(scope, ROLE_COOKIE, "owner" if user.owner else "visitor", YEAR, script=True)]
        if not user.id:
            cookies.append(set_cookie(scope, VISITOR_COOKIE, new_id(), YEAR))
        return [(b"set-cookie", cookie.encode("latin-1")) for cookie in cookies]

    async def check(self, scope: dict, path: str, headers: dict, user: User, receive: Any) -> Any:
        """Check a request; returns `receive` for the app, with a limited body. Raises Rejected."""
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            self.check_session(user, session_read(scope, path))
            return receive
        if not user.owner and not self._calls.allow(user):
            raise Rejected(429, "Too many requests per minute; wait a little.")
        if path.startswith(f"{API}/upload"):
            return self.upload(user, headers, receive)
        body = await read_body(receive, MAX_JSON_BYTES)
        if path.startswith(API):
            message = read_json(body)
            self.check_session(user, message.get("session_hash") if isinstance(message, dict) else None)
            if contains_url(message):
                raise Rejected(400, "Upload the file; this server does not download files from addresses.")
        return replay_body(body, receive)

    def upload(self, user: User, headers: dict, receive: Any) -> Any:
        most = self.settings.max_upload_mb * 1_000_000 + 100_000  # the form around a file is part of the request
        if parse_int(headers.get("content-length")) > most:
            raise Rejected(413, f"The file is too large; the limit is {self.settings.max_upload_mb} MB.")
        if not user.owner:
            if not self._uploads.allow(user):
                raise Rejected(429, "Too many uploads per hour; try again later.")
            if folder_bytes(self.uploads) + most > self.settings.max_uploads_mb * 1_000_000:
                raise Rejected(507, "The space for uploads is full; try again in an hour.")
        return limit_body(receive, most)

    def check_session(self, user: User, session: object) -> None:
        """A Gradio session belongs to the first user of its name. Raises Rejected for others."""
        if session is None:
            return
        if not isinstance(session, str) or len(session) > 100:
            raise Rejected(400, "This is not a valid session.")
        own = user.id or f"address {user.address}"
        first = self._sessions.setdefault(session, own)
        self._sessions.move_to_end(session)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        # a user with a new cookie may have opened the session without it
        if first != own and first != f"address {user.address}":
            raise Rejected(403, "This session belongs to another user; reload the page.")


def oauth_names(scope: dict) -> list[str]:
    """The name and the organisations of the user signed in with Hugging Face, from Gradio's signed session."""
    profile = oauth_info(scope.get("session") or {}).get("userinfo") or {}
    names = [profile.get("preferred_username")]
    names += [org.get("preferred_username") for org in profile.get("orgs") or () if isinstance(org, dict)]
    return [name for name in names if isinstance(name, str)]


def session_read(scope: dict, path: str) -> str | None:
    """The session whose results a GET request reads, or whose end it waits for; else None."""
    if path.startswith(f"{API}/queue/data"):
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [None])[-1]
    return path.rpartition("/")[2] if path.startswith(f"{API}/heartbeat/") else None


def read_json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None  # Gradio reports the error


def contains_url(message: object) -> bool:
    """Whether a file in the message is a URL. Gradio would download it, of any size, before any permission check."""
    files = (value for value, _ in values_within(message) if isinstance(value, dict))
    return any("://" in str(file.get("path", ""))[:200] for file in files)


def parse_int(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def limit_body(receive: Any, limit: int) -> Any:
    """`receive` for a body that is streamed. It raises Rejected after more than `limit` bytes."""
    seen = 0

    async def next_part() -> dict:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise Rejected(413, f"The request is too large; the limit is {limit:,} bytes.")
        return message

    return next_part
