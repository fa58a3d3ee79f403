"""Permissions of the page: @action declares a handler's action, and a check runs before every event and every call.

A handler without an action is for the owner only. ui/access/middleware.py stores the user in the request's ASGI scope;
Gradio makes the request available while a handler or a call runs, in any thread, queued or not.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.serving.permissions import NOBODY, OWNER, Action, User, check_permission
from lightreasoner.serving.quotas import VisitorRateLimit
from lightreasoner.settings import Settings
from ui.compat.gradio import callable_functions, current_request

FILES_PER_MINUTE = 20  # that the server reads for one visitor
SCOPE_KEY = "lightreasoner.visitor"
CHECKED = "_lightreasoner_checked"
OWNERS_ONLY, VISITORS_ONLY = "lr-for-owners", "lr-for-visitors"  # CSS classes of parts that the others do not see
ATTRIBUTE = "_lightreasoner_action"
Handler = TypeVar("Handler", bound=Callable)


def action(name: str, *, visitors: bool = False, costly: bool = False) -> Callable[[Handler], Handler]:
    """Declare a handler's action; see Action for the arguments. Returns the handler itself, not a wrapper."""
    declared = Action(name, visitors, costly)

    def declare(handler: Handler) -> Handler:
        setattr(handler, ATTRIBUTE, declared)
        return handler

    return declare


def action_of(handler: Callable) -> Action | None:
    """The action that a handler declares, also through a wrapper made with functools.wraps; None if there is none."""
    return getattr(handler, ATTRIBUTE, None)


def current_user(settings: Settings) -> User:
    """The user whose request is being handled. On a public server a call outside of a request has no rights."""
    if not settings.public:
        return OWNER
    request = current_request()
    return request.scope.get(SCOPE_KEY, NOBODY) if request else NOBODY


def checked_events(page: gr.Blocks, settings: Settings) -> None:
    """Make every event of the page check the permission first."""
    costly = VisitorRateLimit(FILES_PER_MINUTE, 60)
    for event in page.fns.values():
        if event.fn is not None:
            event.fn = checked_event(event.fn, settings, costly)


def checked_event(function: Callable, settings: Settings, costly: VisitorRateLimit) -> Callable:
    """The handler with a check of its permission and, for costly actions, of the rate; it raises gr.Error."""
    action = action_of(function)

    def check() -> None:
        user = current_user(settings)
        try:
            check_permission(user, action, settings)
            if action and action.costly and not user.owner and not costly.allow(user):
                raise UserError("Too many files per minute; wait a little, then try again.")
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
    """The calls of a component's script, each with a check of its permission; a refusal is returned as {"error"}."""

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
    """Raises RuntimeError if a browser can call a function without a permission check."""
    for function in callable_functions(page):
        if not getattr(function, CHECKED, False):
            raise RuntimeError(f"No permission is checked before {function}; see ui/access/actions.py.")
