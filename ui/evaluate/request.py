"""EvaluateRequest: the checked values of the Evaluate form, and the arguments of its job."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightreasoner.decoding.contrast import check_greedy, parse_contrasts
from lightreasoner.errors import UserError
from lightreasoner.evaluation.run import checked_sampling
from lightreasoner.formatting import plural
from lightreasoner.models.prompt_settings import PAPER, PromptSettings
from lightreasoner.models.references import parse_ref
from lightreasoner.models.weights import check_adapter
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.problems.sources import problems_title
from lightreasoner.problems.stream import MAX_ROWS
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import RECORD, run_folder
from lightreasoner.training.runs import tuned_run
from lightreasoner.validation import number
from ui.components.form_values import MAX_BATCH_SIZE, checked_problems, checked_stops, stop_options, whole_or_none
from ui.components.pair_card import OTHER
from ui.components.prompt_form import read_prompt
from ui.components.run_form import options
from ui.components.run_list import without_folders

MOST_MODELS = 32  # in one evaluation
SAMPLING = {"samples": 1, "temperature": 0}  # of fields that are empty


@dataclass(frozen=True)
class EvaluateRequest:
    """Checked values of the form. `problems` is a key of SOURCES or an uploaded file's path."""

    model: str
    adapters: tuple[Path, ...]  # fine-tuning runs, or folders of adapters
    with_base: bool
    problems: str
    max_new_tokens: int
    limit: int | None = None  # None: all
    batch_size: int | None = None  # None: as many responses as fit into memory
    stop: tuple[str, ...] = ()
    skip_unreadable: bool = False  # use the rest of a file that has rows which cannot be read
    prompt: PromptSettings = PAPER
    samples: int = 1  # responses per problem
    temperature: float = 0.0  # 0 is greedy
    amateur: str | None = None  # decode by contrast with it, at every α and β of these lists
    alpha: str = f"{ALPHA:g}"
    beta: str = f"{BETA:g}"
    takeover: bool = False
    cap: float | None = None  # on the log ratio of the targets, in nats

    def argv(self, problems: str) -> list[str]:
        """The verb's arguments without --run-dir."""
        argv = ["evaluate", "--model", self.model]
        for adapter in self.adapters:
            argv += ["--adapter", str(adapter)]
        argv += ["--problems", problems] if self.with_base else ["--no-base", "--problems", problems]
        argv += options(
            self, "skip_unreadable", "limit", "max_new_tokens", "batch_size", "samples", "temperature", "prompt"
        )
        argv += options(self, "amateur", "alpha", "beta", "takeover", "cap") if self.amateur else []
        return argv + stop_options(self.stop)

    @property
    def title(self) -> str:
        count = len(self.adapters)
        models = without_folders(self.model) + (f" and {plural(count, 'adapter')}" if count else "")
        if self.amateur:
            models += f" against {without_folders(self.amateur)}"
        verb = "Preview" if self.amateur else "Evaluate"
        return f"{verb} {models} · {problems_title(self.problems)}" + (f" · {self.limit:,}" if self.limit else "")


def base_of(model: object, own: object) -> str:
    """The reference of the base model in the form's two fields. Raises UserError for invalid ones."""
    ref = own if model == OTHER else model
    parsed = parse_ref(ref if isinstance(ref, str) else str(ref))
    if parsed.adapter:
        raise UserError("Name the base model without an adapter; select adapters below.")
    return parsed.text


def read_form(settings: Settings, values: Mapping[str, object]) -> EvaluateRequest:
    """The form's values, by the names of EvaluateForm.fields, as a request. Raises UserError for invalid ones."""
    base, with_base = base_of(values["model"], values["own_model"]), values["with_base"] is True
    adapters = [*ticked_runs(settings, base, values["adapters"]), *adapter_at(values["adapter_folder"])]
    if len(adapters) > MOST_MODELS:
        raise UserError(f"These are {len(adapters)} adapters; at most {MOST_MODELS} can be evaluated together.")
    amateur = amateur_of(values)
    if not with_base and not adapters and not amateur:
        raise UserError("There is no model to evaluate; select an adapter or include the base model.")
    words = ("The number of responses per problem", "The temperature")
    several = (default if (given := values.get(name)) is None else given for name, default in SAMPLING.items())
    sampling = checked_sampling(*several, names=words)
    return EvaluateRequest(
        base,
        tuple(adapters),
        with_base,
        checked_problems(values["source"], values["upload"]),
        max_new_tokens=number("The token limit", values["max_new_tokens"], 1, settings.max_new_tokens, whole=True),
        limit=whole_or_none("The number of problems", values["limit"], MAX_ROWS),
        batch_size=whole_or_none("The batch size", values["batch_size"], MAX_BATCH_SIZE),
        stop=checked_stops(values.get("stop")),
        skip_unreadable=values.get("skip_unreadable") is True,
        prompt=read_prompt(values),
        samples=sampling.samples,
        temperature=sampling.temperature,
        **amateur,
    )


def amateur_of(values: Mapping[str, object]) -> dict:
    """The fields of a request on the preview; empty without an amateur. Raises UserError."""
    ref = values.get("amateur")
    if ref is None or (isinstance(ref, str) and not ref.strip()):
        return {}
    check_greedy(values.get("temperature") or 0)
    alpha, beta, takeovers = values.get("alpha"), values.get("beta"), values.get("takeover") is True
    cells = parse_contrasts(alpha, beta, takeovers, cap=values.get("cap") or None)
    written = {"beta": ",".join(dict.fromkeys(f"{cell.beta:g}" for cell in cells)), "takeover": takeovers}
    written |= {} if takeovers else {"alpha": ",".join(dict.fromkeys(f"{cell.alpha:g}" for cell in cells))}
    written["cap"] = cells[0].cap
    return {"amateur": parse_ref(ref if isinstance(ref, str) else str(ref)).text} | written


def ticked_runs(settings: Settings, base: str, ticked: object) -> list[Path]:
    """The folders of the selected fine-tuning runs. Raises UserError for a missing run or one with another base."""
    if not isinstance(ticked, list | tuple | None):
        raise UserError("The adapters did not arrive as a list; select them again.")
    found = []
    for run_id in dict.fromkeys(map(str, ticked or ())):
        tuned = tuned_run(settings, run_id)
        if tuned.expert != base:
            own = without_folders(tuned.expert)
            raise UserError(f"{tuned.title} was fine-tuned from {own}, not from {without_folders(base)}; deselect it.")
        found.append(run_folder(settings, run_id).absolute())
    return found


def adapter_at(text: object) -> list[Path]:
    """The adapter in the folder of the text field, if there is text. Raises UserError where there is no adapter."""
    if not isinstance(text, str | None):
        raise UserError("The adapter's folder did not arrive as text; type its path.")
    if not (text or "").strip():
        return []
    if len(text) > 1000 or "\0" in text:
        raise UserError("This is not a valid path; type the path of an adapter's folder.")
    place = Path(text.strip()).expanduser().absolute()
    check_adapter(place / "adapter" if (place / RECORD).is_file() else place)
    return [place]
