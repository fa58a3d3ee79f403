"""How the owner of a public server signs in without OAuth: a small form, and a cookie that opens everything.

The cookie holds nothing but a random word that this process knows; a restart or signing out ends it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from lightreasoner.serving.permissions import oauth_available, sign_in_hint
from lightreasoner.serving.quotas import RateLimit
from lightreasoner.settings import Settings
from ui.access.cookies import OWNER_COOKIE, set_cookie
from ui.access.visitors import SCOPE_KEY
from ui.templates import render

HOURS = 12  # that a sign-in lasts
ATTEMPTS, IN_ALL, WHILE = 5, 50, 600  # wrong passwords of an address, and of all, in so many seconds


class SignIn:
    """Who is signed in as the owner, and how one gets there."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.oauth = oauth_available()
        self._words: dict[str, float] = {}  # of those who are signed in → until when
        self._attempts, self._all = RateLimit(ATTEMPTS, WHILE), RateLimit(IN_ALL, WHILE)
        self._lock = threading.Lock()

    def knows(self, word: str) -> bool:
        """Whether this is the cookie of somebody who is signed in. A random word of 256 bits cannot be found by
        measuring how long that takes."""
        return self._words.get(word, 0) > time.time()

    def right(self, user: str, password: str) -> bool:
        given, known = (text.encode(errors="replace") for text in (f"{user}:{password}", self.settings.login))
        digest = [hashlib.sha256(text).digest() for text in (given, known)]
        return bool(self.settings.login) and hmac.compare_digest(*digest)

    def enter(self) -> str:
        """A new word for the cookie."""
        word, now = secrets.token_urlsafe(32), time.time()
        with self._lock:
            self._words = {known: until for known, until in self._words.items() if until > now}
            self._words[word] = now + HOURS * 3600
        return word

    def leave(self, word: str) -> None:
        with self._lock:
            self._words.pop(word, None)

    def routes(self) -> list[Route]:
        """GET and POST sign-in, POST sign-out."""
        ways = (("/sign-in", self.page, "GET"), ("/sign-in", self.post, "POST"), ("/sign-out", self.out, "POST"))
        return [Route(path, answer, methods=[method]) for path, answer, method in ways]

    async def page(self, _request: Request) -> Response:
        return form("" if self.settings.login else sign_in_hint(self.settings))

    async def post(self, request: Request) -> Response:
        address = request.scope[SCOPE_KEY].address
        try:
            said = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
        except ValueError:
            said = {}
        user, password = (said.get(name, [""])[0] for name in ("user", "password"))
        if not (self._attempts.allow(address) and self._all.allow("")):
            return form("Too many attempts; try again in ten minutes.", 429)
        if not self.right(user, password):
            return form("That user and that password do not belong together here.", 403)
        answer = RedirectResponse("./", status_code=303)
        answer.headers.append("set-cookie", set_cookie(request.scope, OWNER_COOKIE, self.enter(), HOURS * 3600))
        return answer

    async def out(self, request: Request) -> Response:
        self.leave(request.cookies.get(OWNER_COOKIE, ""))
        answer = RedirectResponse("./", status_code=303)
        answer.headers.append("set-cookie", set_cookie(request.scope, OWNER_COOKIE, "", 0))
        return answer


def form(notice: str, status: int = 200) -> Response:
    """The page with the sign-in form."""
    headers = {"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin"}
    return HTMLResponse(render("sign_in", notice=notice), status_code=status, headers=headers)


def owners_only(settings: Settings, endpoint):
    """A route of our own that a public server keeps to its owner."""

    def fetch(request: Request) -> Response:
        visitor = request.scope.get(SCOPE_KEY)
        if settings.public and not (visitor and visitor.owner):
            return PlainTextResponse("This belongs to the owner of this server.", status_code=403)
        return endpoint(request)

    return fetch
