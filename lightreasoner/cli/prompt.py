"""The options that make a prompt, shared by the verbs that ask a model; and the prompt that results, printed."""

import argparse
import json
from dataclasses import replace
from typing import Any

from lightreasoner.errors import UserError
from lightreasoner.formatting import printable
from lightreasoner.models.prompt_settings import PRESETS, TITLES, PromptSettings, check_prompt, prompt_of

SHOTS = 4  # examples of a few-shot prompt, unless another number is given


def add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `prompt_settings`, and --show-prompt."""
    names = ", ".join(f"{name}: {title[0].lower()}{title[1:]}" for name, title in TITLES.items())
    group = parser.add_argument_group("prompt", f"{names}. The other options change a part of it.")
    group.add_argument("--prompt", metavar="NAME", help="one of these (default paper), or settings as a JSON object")
    group.add_argument("--system", metavar="TEXT", help="the system prompt; empty for none")
    group.add_argument("--wrapping", metavar="TEXT", help="the user's turn, with {question} where the problem goes")
    group.add_argument("--thinking", choices=("on", "off"), help="where the chat template has a switch for it")
    group.add_argument("--prefix", metavar="TEXT", help="the beginning of the assistant's turn")
    group.add_argument(
        "--template-argument",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of the chat template, its value as JSON or text; repeatable",
    )
    group.add_argument("--examples", metavar="SOURCE", help="solved problems before the question: a source or a file")
    group.add_argument("--shots", type=int, metavar="N", help=f"how many of them (default {SHOTS})")
    group.add_argument("--date", metavar="DAY", help="for templates that name today (default: the run's first day)")
    group.add_argument("--show-prompt", action="store_true", help="print the prompt of the first problem, and end")


def prompt_settings(options: argparse.Namespace) -> PromptSettings:
    """The settings that the options give. Raises UserError."""
    settings = _base(options.prompt)
    given: dict[str, Any] = {name: getattr(options, name) for name in ("system", "wrapping", "prefix", "date")}
    given = {name: value for name, value in given.items() if value is not None}
    given |= {"thinking": options.thinking == "on"} if options.thinking else {}
    if options.template_argument:
        given["arguments"] = settings.arguments | dict(map(_argument, options.template_argument))
    if options.examples:
        given["examples"] = read_examples(options.examples, SHOTS if options.shots is None else options.shots)
    elif options.shots is not None:
        raise UserError("--shots counts examples; name their source with --examples.")
    elif options.prompt == "few-shot":
        raise UserError("--prompt few-shot needs solved problems; name a source or a file with --examples.")
    return check_prompt(replace(settings, **given))


def prompt_argument(settings: PromptSettings) -> list[str]:
    """The options that give these settings; none for the default."""
    changed = settings.as_json()
    return ["--prompt", json.dumps(changed, ensure_ascii=False)] if changed else []


def print_prompt(ref: str, problem: Any, settings: PromptSettings) -> None:
    """Print the exact prompt of a Problem, token by token. Loads the tokenizer only. Raises UserError."""
    from lightreasoner.models.loading import load_tokenizer
    from lightreasoner.models.prompts import render, settle_date
    from lightreasoner.models.token_text import TokenTexts

    tokenizer = load_tokenizer(ref)
    prompt = render(tokenizer, ref, problem.question, settle_date(settings, [tokenizer]), problem.context)
    texts = TokenTexts(tokenizer)
    print(printable(prompt.text))
    print(f"\n{len(prompt.ids):,} tokens:")
    print(printable(" ".join(f"{id}:{texts.text(id)!r}" for id in prompt.ids)))
    for note in prompt.notes:
        print(note)


def _base(text: str | None) -> PromptSettings:
    if text is None or text in PRESETS:
        return PRESETS[text or "paper"]
    if not text.lstrip().startswith("{"):
        raise UserError(f"There is no prompt {text!r:.60}; choose one of {', '.join(PRESETS)}, or give a JSON object.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--prompt is no JSON object: {error}. Check its quotes and commas.") from None
    return prompt_of(value)


def _argument(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not mark or not name.isidentifier():
        raise UserError(f"--template-argument {text!r:.60} is no NAME=VALUE; write it as documents=[].")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def read_examples(source: str, count: int) -> tuple[tuple[str, str], ...]:
    """(question, response) of the first `count` problems of a source that have a solution or an answer."""
    from lightreasoner.problems.stream import open_problems, training_split
    from lightreasoner.validation import number

    number("The number of examples", count, 1, 64, whole=True)
    found = []
    for problem in open_problems(source, split=training_split(source)):
        if problem.solution or problem.answer:
            found.append((problem.question, solved(problem)))
        if len(found) == count:
            return tuple(found)
    raise UserError(
        f"{source} has {len(found)} solved problems and {count} were asked for; lower --shots, or name another source."
    )


def solved(problem: Any) -> str:
    """The response of an example: the worked solution, and the answer in a sentence of its own."""
    stated = f"The answer is {problem.answer}." if problem.answer else ""
    return "\n".join(part for part in ((problem.solution or "").strip(), stated) if part)
