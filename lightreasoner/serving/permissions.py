"""Permissions on a public server: the actions of visitors and those of the owner.

On a private server every user is the owner. On a public one (settings.public) users are visitors until they sign in as
the owner, and visitors may only use the actions marked for them. Each handler of the page declares its action;
ui/access/actions.py identifies the user and checks the permission before every event and every call of a script.
Studio.start checks again what a visitor may run.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lightreasoner.errors import UserError
from lightreasoner.models.pairs import find_preset
from lightreasoner.models.weights import on_disk
from lightreasoner.settings import Settings


@dataclass(frozen=True)
class User:
    """The user behind a request. `id` is random and unguessable, "" without a cookie."""

    id: str
    name: str | None = None
    owner: bool = False
    address: str = ""


OWNER = User("owner", owner=True)  # every user of a private server
NOBODY = User("")  # a call without a request


@dataclass(frozen=True)
class Action:
    """An action of the page. `name` is "<activity>.<verb>"."""

    name: str
    visitors: bool = False  # whether visitors may use it; otherwise only the owner may
    costly: bool = False  # reads whole files: limited per minute for visitors


def check_permission(visitor: User, action: Action | None, settings: Settings) -> None:
    """Raises UserError unless the user may use this action; without an action only the owner may."""
    if not visitor.owner and not (action and action.visitors):
        raise UserError(f"This belongs to the owner of this server. {sign_in_hint(settings)}")


def oauth_available() -> bool:
    """Whether users sign in with Hugging Face: only on Spaces, since elsewhere Gradio invents a profile."""
    return os.environ.get("SYSTEM") == "spaces" and bool(os.environ.get("OAUTH_CLIENT_ID"))


def sign_in_hint(settings: Settings) -> str:
    """How the owner signs in, as one sentence for visitors."""
    if oauth_available():
        return "The owner signs in with Hugging Face, at the top of the page."
    if settings.login:
        return "The owner signs in at the top of the page."
    return "Signing in is disabled: this server was started without LIGHTREASONER_LOGIN."


def is_owner(names: Iterable[object], settings: Settings) -> bool:
    """Whether one of these names, of a user or of its organisations, is an owner's."""
    owners = {owner.strip().casefold() for owner in settings.owners.split(",") if owner.strip()}
    return any(isinstance(name, str) and name.casefold() in owners for name in names)


def visitor_pair(refs: tuple[str | None, str, str], tuned: dict | None) -> tuple[str, str, str]:
    """The pair that a visitor may run: a preset whose models are on this machine, without a tuned expert.

    The models come from the preset, whatever the request names. Raises UserError.
    """
    if refs[0] is None:
        raise UserError("Other models belong to the owner of this server; choose a pair of the list.")
    if tuned:
        raise UserError("Tuned experts belong to the owner of this server; leave that field empty.")
    preset = find_preset(refs[0])
    if not all(on_disk(ref) for ref in (preset.expert, preset.amateur)):
        raise UserError(f"{preset.title} is not on this server, and only the owner can load it; choose another pair.")
    return preset.name, preset.expert, preset.amateur


def visitor_settings(settings: Settings) -> Settings:
    """The settings with the limits of visitors."""
    return replace(settings, max_new_tokens=min(settings.max_new_tokens, settings.visitor_tokens))
