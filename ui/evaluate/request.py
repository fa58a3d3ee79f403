"""What the Evaluate form asks for: checked, and as words of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.models.references import parse_ref
from lightreasoner.models.weights import check_adapter
from lightreasoner.problems.stream import MAX_ROWS
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import RECORD, run_folder
from lightreasoner.training.runs import tuned_run
from lightreasoner.validation import number
from ui.components.form_values import MOST_AT_ONCE, checked_problems
from ui.components.pair_card import OTHER
from ui.components.run_list import short_name

MOST_MODELS = 32  # in one evaluation


@dataclass(frozen=True)
class EvaluateRequest:
    """What the form asks for, checked. `problems` is a key of SOURCES or an uploaded file's path."""

    model: str
    adapters: tuple[Path, ...]  # fine-tuning runs, or adapters' folders
    with_base: bool
    problems: str
    named: str  # the problems, for people
    limit: int | None  # None: all
    max_new_tokens: int
    batch_size: int | None  # None: as much as memory allows

    def argv(self, problems: str) -> list[str]:
        """The command line without its --run-dir."""
        words = ["evaluate", "--model", self.model]
        for adapter in self.adapters:
            words += ["--adapter", str(adapter)]
        words += [] if self.with_base else ["--no-base"]
        words += ["--problems", problems] + (["--limit", str(self.limit)] if self.limit else [])
        words += ["--max-new-tokens", str(self.max_new_tokens)]
        return words + (["--batch-size", str(self.batch_size)] if self.batch_size else [])

    @property
    def title(self) -> str:
        count = len(self.adapters)
        models = short_name(self.model) + (f" and {count} adapter{'' if count == 1 else 's'}" if count else "")
        return f"Evaluate {models} · {self.named}" + (f" · {self.limit:,}" if self.limit else "")


def base_of(model: object, own: object) -> str:
    """The base model that the form's two fields name. Raises UserError for what could not be one."""
    ref = own if model == OTHER else model
    parsed = parse_ref(ref if isinstance(ref, str) else str(ref))
    if parsed.adapter:
        raise UserError("Name the base model alone; its adapters are chosen below it.")
    return parsed.text


def read_form(
    settings: Settings, model, own, ticked, folder, source, upload, limit, tokens, with_base, batch
) -> EvaluateRequest:
    """The form's fields as a request. Anybody may send anything; raises UserError."""
    base = base_of(model, own)
    adapters = [*ticked_runs(settings, base, ticked), *adapter_at(folder)]
    if len(adapters) > MOST_MODELS:
        raise UserError(f"These are {len(adapters)} adapters; at most {MOST_MODELS} are evaluated together.")
    if with_base is not True and not adapters:
        raise UserError("There is no model to evaluate; tick an adapter, or leave the base model in.")
    problems, named = checked_problems(source, upload)
    return EvaluateRequest(
        base,
        tuple(adapters),
        with_base is True,
        problems,
        named,
        number("The number of problems", limit or 0, 0, MAX_ROWS, whole=True) or None,
        number("The token limit", tokens, 1, settings.max_new_tokens, whole=True),
        number("The batch size", batch or 0, 0, MOST_AT_ONCE, whole=True) or None,
    )


def ticked_runs(settings: Settings, base: str, ticked: object) -> list[Path]:
    """The folders of the ticked fine-tuning runs. Raises UserError for one that is gone, or tuned another base."""
    if not isinstance(ticked, list | tuple | None):
        raise UserError("The adapters are no list; tick them again.")
    found = []
    for run_id in dict.fromkeys(map(str, ticked or ())):
        tuned = tuned_run(settings, run_id)
        if tuned.expert != base:
            raise UserError(
                f"{tuned.title} was tuned from {short_name(tuned.expert)}, not {short_name(base)}; untick it."
            )
        found.append(run_folder(settings, run_id).absolute())
    return found


def adapter_at(text: object) -> list[Path]:
    """The one adapter of a folder that was typed in, or nothing. Raises UserError when there is none."""
    if not isinstance(text, str | None):
        raise UserError("The adapter's folder is no text; type its path.")
    if not (text or "").strip():
        return []
    if len(text) > 1000 or "\0" in text:
        raise UserError("That is no folder's path; type the path of an adapter's folder.")
    place = Path(text.strip()).expanduser().absolute()
    check_adapter(place / "adapter" if (place / RECORD).is_file() else place)
    return [place]
