"""The verb trace: compare expert and amateur step by step on one problem, in the terminal."""

import argparse
import sys
from pathlib import Path

from lightreasoner.cli.console import print_json, read_stdin
from lightreasoner.cli.decoding import add_stop_option, stop_strings
from lightreasoner.cli.options import add_skip_option
from lightreasoner.cli.pairs import add_pair_options, expert_and_amateurs
from lightreasoner.cli.prompt import add_prompt_options, print_prompt, prompt_settings
from lightreasoner.errors import UserError
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.problems.text_encoding import decoded
from lightreasoner.settings import Settings

MOST = 1_000_000  # bytes of a problem in a text file
PROBLEM_FILE_HELP = "a text file, the first row of a .jsonl, .json, .csv or .parquet file, or - for standard input"


def add(verbs) -> None:
    trace = verbs.add_parser(
        "trace",
        help="solve one problem and show at which tokens expert and amateur diverge",
        description="A model is a bundled name, a Hub id (org/name, org/name@revision), a local folder, a GGUF file, "
        "or one of these with a LoRA adapter (BASE::ADAPTER).",
    )
    add_pair_options(trace, several=True)
    problem = trace.add_mutually_exclusive_group(required=True)
    problem.add_argument("--problem", metavar="TEXT", help="the problem itself")
    problem.add_argument("--problem-file", metavar="F", help=PROBLEM_FILE_HELP)
    add_skip_option(trace)
    trace.add_argument("--response", metavar="TEXT", help="score this response instead of generating one")
    trace.add_argument(
        "--tuned",
        metavar="REF",
        help="the fine-tuned expert, as a third model: shows what training changed at each step",
    )
    trace.add_argument("--tuned-writes", action="store_true", help="generate the response with the tuned expert")
    trace.add_argument(
        "--writer",
        choices=["expert", "contrast", "takeover"],
        default="expert",
        help="contrast: above β the contrastive target's choice is taken, as training would teach; takeover: the "
        "amateur writes, and above β the expert's choice is taken (default expert)",
    )
    trace.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="per response (default 128)")
    trace.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy (default 0)")
    trace.add_argument("--seed", type=int, default=0, metavar="S", help="of sampling at a temperature (default 0)")
    add_stop_option(trace)
    trace.add_argument(
        "--alpha", type=float, default=ALPHA, metavar="A", help="α of the plausible set (default %(default)s)"
    )
    trace.add_argument(
        "--beta",
        type=float,
        default=BETA,
        metavar="B",
        help="select steps with a larger KL, in nats (default %(default)s)",
    )
    trace.add_argument("--cap", type=float, metavar="C", help="cap on the target's log ratio, in nats (default none)")
    add_prompt_options(trace)
    trace.add_argument("--json", type=Path, metavar="FILE", help="write the trace as JSON (- for standard output)")
    trace.set_defaults(run=run_trace)


def read_problem(options: argparse.Namespace) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The text of the problem that --problem or --problem-file gives, and the turns before it. Raises UserError."""
    if options.problem_file is None:
        return options.problem, ()
    if options.problem_file == "-":
        return read_stdin(), ()
    path = Path(options.problem_file)
    if path.suffix.lower() in {".jsonl", ".json", ".csv", ".parquet"}:
        from lightreasoner.problems.stream import load_file

        problem = load_file(path, limit=1, skip_unreadable=options.skip_unreadable).problems[0]
        return problem.question, problem.context
    try:
        with path.open("rb") as file:
            data = file.read(MOST)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Name a text file.") from None
    if len(data) == MOST:
        raise UserError(f"{path} has {MOST / 1e6:g} MB or more, which is no problem; name a text file.")
    return decoded(data, path), ()


def read_request(options: argparse.Namespace, settings: Settings):
    """The TraceRequest of the options. Raises UserError."""
    from lightreasoner.decoding.contrast import Contrast, takeover
    from lightreasoner.tracing.trace import TraceRequest, check
    from lightreasoner.validation import check_alpha_beta, check_cap

    question, context = read_problem(options)
    check_alpha_beta(options.alpha, options.beta, ("--alpha", "--beta"))
    check_cap(options.cap)
    decoding = (options.max_new_tokens, options.temperature, options.seed, stop_strings(options))
    prompt = prompt_settings(options)
    contrast = None
    if options.writer == "contrast":
        contrast = Contrast(options.alpha, options.beta, cap=options.cap)
    elif options.writer == "takeover":
        contrast = takeover(options.beta)
    request = TraceRequest(question, options.response, (), *decoding, context=context, prompt=prompt, contrast=contrast)
    check(request, settings)
    return request


def run_trace(options: argparse.Namespace, settings: Settings) -> None:
    request = read_request(options, settings)
    name, expert, (amateur, *others) = expert_and_amateurs(options)
    if options.show_prompt:
        print_prompt(expert, request, request.prompt)
        return
    if options.tuned_writes and not options.tuned:
        raise UserError("--tuned-writes needs a tuned expert; give one with --tuned.")

    from lightreasoner.datasets.amateurs import model_title
    from lightreasoner.jobs.accelerator import AcceleratorLock, describe_holder
    from lightreasoner.models.cache import LoadedModels
    from lightreasoner.models.pairs import describe_pair, load_further, load_pair
    from lightreasoner.models.token_text import TokenTexts
    from lightreasoner.storage.atomic import write_json
    from lightreasoner.tracing.records import Trace, trace_json
    from lightreasoner.tracing.terminal import print_events
    from lightreasoner.tracing.trace import trace
    from lightreasoner.tracing.tuned_decoder import EXPERT, TUNED, describe_tuned, load_tuned_model, tuned_ref

    to_stdout = str(options.json) == "-"
    printed = set()

    def on_wait(holder: dict | None) -> None:
        if (line := f"Waiting for {describe_holder(holder)} …") not in printed:
            printed.add(line)
            print(line, file=sys.stderr)

    with AcceleratorLock(settings.workspace, settings.device).acquire("trace", on_wait=on_wait, interactive=True):
        models, tuned = LoadedModels(settings), None
        pair = load_pair(expert, amateur, models, name=name)
        if options.tuned:
            writer = TUNED if options.tuned_writes else EXPERT
            tuned = load_tuned_model(tuned_ref(options.tuned, expert), writer, pair, models)
        along = load_further(pair, others, models)
        record = Trace(describe_pair(pair, along), request, tuned=tuned and describe_tuned(tuned, pair))
        texts = TokenTexts(pair.expert.tokenizer)
        events, out = trace(pair, request, settings, tuned=tuned, others=along), sys.stderr if to_stdout else sys.stdout
        marks = [" (another tokenizer: KL ≥)" if other.across else "" for other in along]
        names = [model_title(name) + mark for name, mark in zip(others, marks, strict=True)]
        for event in print_events(events, options.beta, out, options.alpha, names, options.cap):
            record.add(event, texts)
    if options.json:
        document = trace_json(record, options.alpha, options.beta, options.cap)
        if to_stdout:
            print_json(document, 1)
        else:
            write_json(options.json, document)
