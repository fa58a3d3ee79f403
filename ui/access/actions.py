"""Permissions where the handlers are: each says by `@action` what it does, under which name, and who may ask for it.

ui/access/visitors.py checks this before every event and every call of a script; what declares no action is the owner's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lightreasoner.serving.permissions import Action

ATTRIBUTE = "_lightreasoner_action"
Handler = TypeVar("Handler", bound=Callable)


def action(name: str, *, visitors: bool = False, costly: bool = False) -> Callable[[Handler], Handler]:
    """Declare what a handler does; see Action. The handler itself is returned, not a wrapper."""
    declared = Action(name, visitors, costly)

    def declare(handler: Handler) -> Handler:
        setattr(handler, ATTRIBUTE, declared)
        return handler

    return declare


def action_of(handler: Callable) -> Action | None:
    """What the handler declares, also through a wrapper made with functools.wraps."""
    return getattr(handler, ATTRIBUTE, None)
