"""@action declares at each handler the name of its action and whether visitors may use it.

ui/access/visitors.py checks this before every event and every call of a script. A handler without an action is for the
owner only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lightreasoner.serving.permissions import Action

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
