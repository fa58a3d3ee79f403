"""Who may do what on a server that strangers can reach.

Locally everybody is the owner. On a public server (settings.public) whoever has not signed in as the owner is a
visitor, and a visitor may do those actions that say so and nothing else: everything else is the owner's. Each handler
of the page declares its action (ui/access/actions.py); ui/access/visitors.py says who is calling and checks the
permission before every event and every call of a script. Studio.start checks again what a visitor may run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lightreasoner.errors import UserError
from lightreasoner.models.pairs import find_preset
from lightreasoner.models.weights import known_size
from lightreasoner.settings import Settings


@dataclass(frozen=True)
class User:
    """Somebody who calls. `id` is random and unguessable, "" for who has no cookie yet."""

    id: str
    name: str | None = None
    owner: bool = False
    address: str = ""


OWNER = User("owner", owner=True)  # everybody, where the server is not public
NOBODY = User("")  # a call that came from no request


@dataclass(frozen=True)
class Action:
    """Something that the page can be asked to do. `name` is "<activity>.<verb>"."""

    name: str
    visitors: bool = False  # whether visitors may ask for it, too; otherwise it is the owner's
    costly: bool = False  # reads whole files: a visitor may do so a few times a minute


def check_permission(visitor: User, action: Action | None, settings: Settings) -> None:
    """Whether somebody may do this; without an action only the owner may. Raises UserError."""
    if not visitor.owner and not (action and action.visitors):
        raise UserError(f"This belongs to the owner of this server. {sign_in_hint(settings)}")


def oauth_available() -> bool:
    """Whether people sign in with Hugging Face: on Spaces only, since elsewhere Gradio would make a profile up."""
    return os.environ.get("SYSTEM") == "spaces" and bool(os.environ.get("OAUTH_CLIENT_ID"))


def sign_in_hint(settings: Settings) -> str:
    """One sentence for visitors."""
    if oauth_available():
        return "The owner signs in with Hugging Face, at the top of the page."
    if settings.login:
        return "The owner signs in at the top of the page."
    return "Nobody can sign in here: this server was started without LIGHTREASONER_LOGIN."


def is_owner(names: Iterable[object], settings: Settings) -> bool:
    """Whether one of these names, a person's or its organisations', is an owner's."""
    owners = {owner.strip().casefold() for owner in settings.owners.split(",") if owner.strip()}
    return any(isinstance(name, str) and name.casefold() in owners for name in names)


def visitor_pair(refs: tuple[str | None, str, str], tuned: dict | None) -> tuple[str, str, str]:
    """The pair as a visitor may run it: a preset of the catalogue that is on this machine, read along by nobody.

    The models come from the catalogue, whatever the caller says they are. Raises UserError.
    """
    if refs[0] is None:
        raise UserError("Models of one's own belong to the owner of this server; choose a pair of the list.")
    if tuned:
        raise UserError("Tuned experts belong to the owner of this server; leave that field empty.")
    preset = find_preset(refs[0])
    if not all(known_size(ref) for ref in (preset.expert, preset.amateur)):
        raise UserError(f"{preset.title} is not on this server, and only its owner can load it; choose another pair.")
    return preset.name, preset.expert, preset.amateur


def visitor_settings(settings: Settings) -> Settings:
    """The settings with a visitor's limits in place of the usual ones."""
    return replace(settings, max_new_tokens=min(settings.max_new_tokens, settings.visitor_tokens))
