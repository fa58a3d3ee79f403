"""Who may do what on a server that strangers can reach: all the rules, in one place.

Locally everybody is the owner. On a public server (settings.public) whoever has not signed in as the owner is a
visitor, and a visitor may do what OPEN lists and nothing else: what no rule names is the owner's. ui/visitors.py says
who is calling and puts these rules before every event and every call of the page; Studio.start asks them again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lightreasoner.errors import UserError
from lightreasoner.models.pairs import find_preset
from lightreasoner.models.weights import describe
from lightreasoner.settings import Settings


@dataclass(frozen=True)
class Visitor:
    """Somebody who calls. `id` is random and unguessable, "" for who has no cookie yet."""

    id: str
    name: str | None = None
    owner: bool = False
    address: str = ""


OWNER = Visitor("owner", owner=True)  # everybody, where the server is not public
NOBODY = Visitor("")  # a call that came from no request

#: What a visitor may call: the page's events by module and function, its scripts' calls by component and function.
OPEN = frozenset(
    {
        # the Inspect tab's form: presets, problems, uploads of problems
        "ui.pair_form.pair_form.shown",
        "ui.pair_form.pair_form.described",
        "ui.pair_form.pair_form.offered",
        "ui.tuned_form.tuned_form.listed",  # visitors are offered nothing but "None"
        "ui.tuned_form.tuned_form.chosen",
        "ui.tuned_form.tuned_form.renewed",
        "ui.problem_form.choose_source",
        "ui.problem_form.problem_form.opened",
        "ui.problem_form.choose_problem",
        "ui.problem_form.own_text",
        "ui.problem_form.another_problem",
        "ui.inspect_tab.response_form.shown",
        "ui.preflight_card.wire_preflight.cleared",
        # traces: start asks visitor_pair and the limits; the rest needs an id that nobody can guess
        "ui.inspect_tab.wire_runs.start",
        "ui.inspect_tab.wire_runs.described",
        "ui.inspect_tab.wire_runs.branch",
        "ui.inspect_tab.wire_runs.reopen",
        "ui.inspect_tab.build_inspect.follow_link",
        "Viewer.step",
        "Viewer.export",
        "Viewer.stop",  # needs the run's key
        "Header.glance",  # tells visitors whether a job runs, and nothing about it
    }
)
#: Of these, what reads whole files; nobody needs it often.
COSTLY = frozenset({"ui.problem_form.choose_source", "ui.problem_form.problem_form.opened"})
#: What only the owner may call. Nothing depends on this list: it is here so that a test can tell what has no rule.
OWNERS = frozenset(
    {
        "ui.preflight_card.wire_preflight.start",
        "ui.inspect_tab.build_inspect.follow_lens",
        "ui.dataset_form.dataset_form.<lambda>",
        "ui.dataset_form.dataset_form.spelled",
        "ui.datasets_tab.build_datasets.measure",
        "ui.datasets_tab.build_datasets.start",
        "ui.datasets_tab.build_datasets.take_in",
        "ui.datasets_tab.build_datasets.<lambda>",
        "ui.finetune_form.finetune_form.adopt",
        "ui.finetune_form.finetune_form.fit",
        "ui.finetune_form.finetune_form.shown",
        "ui.finetune_form.finetune_form.spelled",
        "ui.finetune_tab.build_finetune.measure",
        "ui.finetune_tab.build_finetune.start",
        "ui.finetune_tab.build_finetune.renew",
        "ui.evaluate_form.evaluate_form.chosen",
        "ui.evaluate_form.evaluate_form.<lambda>",
        "ui.evaluate_form.evaluate_form.spelled",
        "ui.evaluate_tab.build_evaluate.start",
        "ui.evaluate_tab.build_evaluate.fill",
        "ui.evaluate_tab.build_evaluate.renew",
        "ui.evaluate_tab.build_evaluate.<lambda>",
        *(f"Verdict.{call}" for call in ("look", "halt")),
        *(
            f"DatasetExplorer.{call}"
            for call in ("overview", "rows", "trajectory", "trace_file", "mark", "act", "discard", "prepare")
        ),
        *(f"DatasetExplorer.{call}" for call in ("push", "pushed", "pull", "pulled")),
        *(f"FinetuneView.{call}" for call in ("push", "pushed")),
        *(f"FinetuneView.{call}" for call in ("overview", "act", "discard", "merge", "prepare")),
        *(f"EvaluateView.{call}" for call in ("look", "listed", "flip", "score", "scored", "act", "discard")),
        *(f"JobPanel.{call}" for call in ("look", "act")),
    }
)


def check_call(visitor: Visitor, name: str, settings: Settings) -> None:
    """Whether somebody may call what has this name. Raises UserError."""
    if not visitor.owner and name not in OPEN:
        raise UserError(f"This belongs to the owner of this server. {how_to_sign_in(settings)}")


def oauth_here() -> bool:
    """Whether people sign in with Hugging Face: on Spaces only, since elsewhere Gradio would make a profile up."""
    return os.environ.get("SYSTEM") == "spaces" and bool(os.environ.get("OAUTH_CLIENT_ID"))


def how_to_sign_in(settings: Settings) -> str:
    """One sentence for visitors."""
    if oauth_here():
        return "The owner signs in with Hugging Face, at the top of the page."
    if settings.login:
        return "The owner signs in at the top of the page."
    return "Nobody can sign in here: this server was started without LIGHTREASONER_LOGIN."


def is_owner(names: Iterable[object], settings: Settings) -> bool:
    """Whether one of these names, a person's or its organisations', is an owner's."""
    owners = {owner.strip().casefold() for owner in settings.owners.split(",") if owner.strip()}
    return any(isinstance(name, str) and name.casefold() in owners for name in names)


def visitor_pair(refs: tuple[str | None, str, str], lens: dict | None) -> tuple[str, str, str]:
    """The pair as a visitor may run it: a preset of the catalogue that is on this machine, read along by nobody.

    The models come from the catalogue, whatever the caller says they are. Raises UserError.
    """
    if refs[0] is None:
        raise UserError("Models of one's own belong to the owner of this server; choose a pair of the list.")
    if lens:
        raise UserError("Tuned experts belong to the owner of this server; leave that field empty.")
    preset = find_preset(refs[0])
    if not all(describe(ref) for ref in (preset.expert, preset.amateur)):
        raise UserError(f"{preset.title} is not on this server, and only its owner can load it; choose another pair.")
    return preset.name, preset.expert, preset.amateur


def visitor_settings(settings: Settings) -> Settings:
    """The settings with a visitor's limits in place of the usual ones."""
    return replace(settings, max_new_tokens=min(settings.max_new_tokens, settings.visitor_tokens))
