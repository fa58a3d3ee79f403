"""Who is calling, and the check of their permission (ui/access/actions.py) before every event and call of the page.

ui/access/middleware.py finds out who a request comes from and notes it in the request's ASGI scope. Gradio keeps the
request at hand while a handler runs, in whatever thread, queued or not, and while a script's call runs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.serving.permissions import NOBODY, OWNER, User, check_permission
from lightreasoner.serving.quotas import VisitorRateLimit
from lightreasoner.settings import Settings
from ui.access.actions import action_of
from ui.compat.gradio import callable_functions, current_request

FILES_A_MINUTE = 20  # that a visitor has read
SCOPE_KEY = "lightreasoner.visitor"
CHECKED = "_lightreasoner_checked"
OWNERS_ONLY, VISITORS_ONLY = "lr-for-owners", "lr-for-visitors"  # classes of parts that the others do not see


def current_user(settings: Settings) -> User:
    """Who is calling just now. On a public server a call from no known request is nobody's."""
    if not settings.public:
        return OWNER
    request = current_request()
    return request.scope.get(SCOPE_KEY, NOBODY) if request else NOBODY


def checked_events(page: gr.Blocks, settings: Settings) -> None:
    """Check the permission before every event of the page, whoever wired it."""
    costly = VisitorRateLimit(FILES_A_MINUTE, 60)
    for event in page.fns.values():
        if event.fn is not None:
            event.fn = checked_event(event.fn, settings, costly)


def checked_event(function: Callable, settings: Settings, costly: VisitorRateLimit) -> Callable:
    action = action_of(function)

    def check() -> None:
        visitor = current_user(settings)
        try:
            check_permission(visitor, action, settings)
            if action and action.costly and not visitor.owner and not costly.allow(visitor):
                raise UserError("Too many files in a minute; wait a little, then choose again.")
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def checked(*arguments: Any) -> Iterator:
            check()
            yield from function(*arguments)

    else:

        @functools.wraps(function)
        def checked(*arguments: Any) -> Any:
            check()
            return function(*arguments)

    setattr(checked, CHECKED, True)
    return checked


def checked_calls(settings: Settings, calls: list[Callable[..., dict]]) -> list[Callable[..., dict]]:
    """What a component's script may call, with the check of its permission before each."""

    def checked(call: Callable[..., dict]) -> Callable[..., dict]:
        @functools.wraps(call)
        def answer(*arguments: object) -> dict:
            try:
                check_permission(current_user(settings), action_of(call), settings)
            except UserError as error:
                return {"error": str(error)}
            return call(*arguments)

        setattr(answer, CHECKED, True)
        return answer

    return [checked(call) for call in calls]


def require_checks(page: gr.Blocks) -> None:
    """Raises RuntimeError where something can be called without a check of the permission."""
    for function in callable_functions(page):
        if not getattr(function, CHECKED, False):
            raise RuntimeError(f"No permission is checked before {function}; see ui/access/visitors.py.")
