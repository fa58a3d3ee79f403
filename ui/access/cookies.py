"""The cookies of a public server: a visitor's id, the owner's sign-in, and which parts of the page to show."""

from __future__ import annotations

import os
from http.cookies import CookieError, SimpleCookie

VISITOR_COOKIE, OWNER_COOKIE, ROLE_COOKIE = "lr_visitor", "lr_owner", "lr_role"
YEAR = 365 * 24 * 3600


def read_cookies(header: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


def set_cookie(scope: dict, name: str, value: str, seconds: int, script: bool = False) -> str:
    """A cookie that scripts cannot read, unless they are meant to. In the frame that Spaces are shown in, Lax ones
    would not be sent; what comes from other sites' pages is turned away by its origin, so nothing rests on it."""
    framed = "SPACE_ID" in os.environ
    secure = framed or scope.get("scheme") == "https"
    words = [f"{name}={value}", "Path=/", f"Max-Age={seconds}", f"SameSite={'None' if framed else 'Lax'}"]
    words += ["Secure"] if secure else []
    words += ["Partitioned"] if framed else []
    return "; ".join(words + ([] if script else ["HttpOnly"]))
