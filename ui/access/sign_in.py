"""The owner's sign-in with a password on a public server: a form and a cookie.

The cookie holds a random token that this process knows. A restart or signing out invalidates it. A second, signed
cookie marks the browser: strangers who use up all attempts do not lock it out. It stays, and grants nothing else.
"""

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
from ui.access.actions import SCOPE_KEY
from ui.access.cookies import DEVICE_COOKIE, OWNER_COOKIE, YEAR, set_cookie
from ui.html_templates import render

HOURS = 12  # for which a sign-in is valid
#: Attempts per address or marked browser and of all unmarked ones together, per period in seconds.
ATTEMPTS, ALL_ATTEMPTS, PERIOD = 5, 50, 600


class SignIn:
    """The tokens of those who are signed in as the owner, and the routes for signing in and out."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.oauth = oauth_available()
        self._tokens: dict[str, float] = {}  # → time of expiry
        self._attempts, self._all = RateLimit(ATTEMPTS, PERIOD), RateLimit(ALL_ATTEMPTS, PERIOD)
        self._devices = RateLimit(ATTEMPTS, PERIOD)
        # derived slowly, since the cookie could be used to try passwords; a new password makes all marks worthless
        self._key = hashlib.scrypt(settings.login.encode(errors="replace"), salt=b"lr_device", n=2**14, r=8, p=1)
        self._lock = threading.Lock()

    def new_device(self) -> str:
        """The mark of a browser in which the owner has signed in: a random id and its signature."""
        id = secrets.token_urlsafe(16)
        return f"{id}.{self._signature(id)}"

    def device(self, mark: str) -> str | None:
        """The id of a mark; None if this server has not signed it."""
        id, _, signature = mark.partition(".")
        genuine = self.settings.login and hmac.compare_digest(
            signature.encode(errors="replace"), self._signature(id).encode()
        )
        return id if genuine else None

    def _signature(self, id: str) -> str:
        return hmac.new(self._key, id.encode(errors="replace"), hashlib.sha256).hexdigest()

    def _allow_attempt(self, address: str, mark: str) -> bool:
        device = self.device(mark)
        if device:
            return self._devices.allow(device)
        return self._attempts.allow(address) and self._all.allow("")

    def is_signed_in(self, token: str) -> bool:
        """Whether the token is valid. It has 256 random bits, so timing the look-up does not reveal it."""
        return self._tokens.get(token, 0) > time.time()

    def is_correct(self, user: str, password: str) -> bool:
        given, known = (text.encode(errors="replace") for text in (f"{user}:{password}", self.settings.login))
        digest = [hashlib.sha256(text).digest() for text in (given, known)]
        return bool(self.settings.login) and hmac.compare_digest(*digest)

    def sign_in(self) -> str:
        """A new token for the cookie."""
        token, now = secrets.token_urlsafe(32), time.time()
        with self._lock:
            self._tokens = {known: expiry for known, expiry in self._tokens.items() if expiry > now}
            self._tokens[token] = now + HOURS * 3600
        return token

    def sign_out(self, token: str) -> None:
        with self._lock:
            self._tokens.pop(token, None)

    def routes(self) -> list[Route]:
        """GET and POST /sign-in, POST /sign-out."""
        routes = (("/sign-in", self.page, "GET"), ("/sign-in", self.post, "POST"), ("/sign-out", self.out, "POST"))
        return [Route(path, answer, methods=[method]) for path, answer, method in routes]

    async def page(self, _request: Request) -> Response:
        return sign_in_page("" if self.settings.login else sign_in_hint(self.settings))

    async def post(self, request: Request) -> Response:
        address = request.scope[SCOPE_KEY].address
        try:
            fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
        except ValueError:
            fields = {}
        user, password = (fields.get(name, [""])[0] for name in ("user", "password"))
        if not self._allow_attempt(address, request.cookies.get(DEVICE_COOKIE, "")):
            return sign_in_page("Too many attempts; try again in ten minutes.", 429)
        if not self.is_correct(user, password):
            return sign_in_page("Wrong user or password.", 403)
        answer = RedirectResponse("./", status_code=303)
        answer.headers.append("set-cookie", set_cookie(request.scope, OWNER_COOKIE, self.sign_in(), HOURS * 3600))
        answer.headers.append("set-cookie", set_cookie(request.scope, DEVICE_COOKIE, self.new_device(), YEAR))
        return answer

    async def out(self, request: Request) -> Response:
        self.sign_out(request.cookies.get(OWNER_COOKIE, ""))
        answer = RedirectResponse("./", status_code=303)
        answer.headers.append("set-cookie", set_cookie(request.scope, OWNER_COOKIE, "", 0))
        return answer


def sign_in_page(notice: str, status: int = 200) -> Response:
    """The page with the form, below a notice."""
    headers = {"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin"}
    return HTMLResponse(render("sign_in", notice=notice), status_code=status, headers=headers)


def owners_only(settings: Settings, endpoint):
    """The endpoint of a route, restricted to the owner on a public server."""

    def fetch(request: Request) -> Response:
        visitor = request.scope.get(SCOPE_KEY)
        if settings.public and not (visitor and visitor.owner):
            return PlainTextResponse("This belongs to the owner of this server.", status_code=403)
        return endpoint(request)

    return fetch
