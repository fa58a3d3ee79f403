"""The cookies of a public server: the visitor's id, the owner's sign-in token, the mark of a browser that the owner has
used, and the role for the page's script."""

import os
from http.cookies import CookieError, SimpleCookie

VISITOR_COOKIE, OWNER_COOKIE, ROLE_COOKIE, DEVICE_COOKIE = "lr_visitor", "lr_owner", "lr_role", "lr_device"
YEAR = 365 * 24 * 3600


def read_cookies(header: str) -> dict[str, str]:
    """Name → value of a Cookie header; {} if it cannot be parsed."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


def set_cookie(scope: dict, name: str, value: str, seconds: int, script: bool = False) -> str:
    """A Set-Cookie header. script: whether the page's scripts may read the cookie.

    A Space is shown in a frame, to which browsers do not send Lax cookies. SameSite=None is safe there because the
    gate refuses requests of other sites by their Origin header.
    """
    framed = "SPACE_ID" in os.environ
    secure = framed or scope.get("scheme") == "https"
    parts = [f"{name}={value}", "Path=/", f"Max-Age={seconds}", f"SameSite={'None' if framed else 'Lax'}"]
    parts += ["Secure"] if secure else []
    parts += ["Partitioned"] if framed else []
    return "; ".join(parts + ([] if script else ["HttpOnly"]))
