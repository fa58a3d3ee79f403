"""What the Inspect form asks for, checked: the run that its values define."""

from collections.abc import Mapping

from lightreasoner.errors import UserError
from lightreasoner.models.references import parse_ref
from lightreasoner.problems.rows import Problem
from lightreasoner.tracing.trace import MOST_READERS, TraceRequest
from lightreasoner.validation import number
from ui.components.form_values import checked_stops
from ui.components.pair_form import pair_refs
from ui.components.prompt_form import read_prompt
from ui.inspect.links import SCORE
from ui.inspect.tuned_form import requested_tuned
from ui.inspect.writer_form import requested_contrast
from ui.studio import Studio


def read_form(studio: Studio, form: Mapping[str, object]) -> dict:
    """The arguments of Studio.start. form: values by the names of InspectForm.fields; calls over HTTP have not all.

    Raises UserError.
    """
    picked, scored = form["picked"], form["mode"] == SCORE
    contrast = requested_contrast(form["writer"], form.get("alpha"), form.get("beta"), form.get("cap"))
    request = TraceRequest(
        form["question"],
        form["response"] if scored else None,
        max_new_tokens=number("The token limit", form["tokens"], 1, studio.settings.max_new_tokens, whole=True),
        temperature=number("The temperature", form["temperature"], 0, 10),
        seed=number("The seed", form["seed"], 0, 2**53, whole=True),
        stop=checked_stops(form.get("stop")),
        context=picked.context if isinstance(picked, Problem) else (),
        prompt=read_prompt(form),
        contrast=None if scored else contrast,
    )
    refs = pair_refs(form["preset"], form["expert"], form["amateur"])
    tuned = requested_tuned(studio, form["tuned"], form["writer"], refs[1])
    arguments = {"request": request, "refs": refs, "tuned": tuned, "others": further_amateurs(form.get("others"), refs)}
    if isinstance(picked, Problem) and picked.question.strip() == str(form["question"]).strip():
        arguments |= {"problem_id": picked.id, "answer": picked.answer}
    return arguments


def further_amateurs(text: object, refs: tuple[str | None, str, str]) -> tuple[str, ...]:
    """The references of a form's lines. Raises UserError for too many, and for one that reads already."""
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    if len(lines) >= MOST_READERS:
        raise UserError(f"These are {len(lines)} further amateurs; at most {MOST_READERS - 1} read along. Name fewer.")
    found = [parse_ref(line).text for line in lines]
    if twice := next((ref for n, ref in enumerate(found) if ref in (parse_ref(refs[2]).text, *found[:n])), None):
        raise UserError(f"The amateur {twice} is named twice, and would read along twice; name it once.")
    return tuple(found)
