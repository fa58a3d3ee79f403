"""The verb experiment: sample, fine-tune and evaluate in one go, with a control beside the method."""

import argparse
from pathlib import Path

from lightreasoner.cli.options import Once, add_report_option, add_skip_option, given, reporting
from lightreasoner.cli.pairs import add_pair_options, pair_refs
from lightreasoner.errors import UserError
from lightreasoner.formatting import in_points
from lightreasoner.progress import ConsoleProgress, Progress
from lightreasoner.settings import Settings


def add(verbs) -> None:
    experiment = verbs.add_parser(
        "experiment",
        help="sample, fine-tune and evaluate in one go, with a control",
        description="Samples a dataset, fine-tunes the expert on it once per arm, and evaluates each arm beside the "
        "expert. Its runs lie beside the experiment's folder. Run the same command again to resume; finished stages "
        "are not repeated.",
    )
    option = experiment.add_argument
    option(
        "plan",
        nargs="?",
        type=Path,
        metavar="PLAN.toml",
        help="a plan with arms, or several such as experiments/paper.toml; without one, give the options below",
    )
    add_pair_options(experiment)
    option("--problems", action=Once, metavar="SOURCE", help="to learn from; see the command sample")
    option("--limit", type=int, metavar="N", help="of the problems to learn from (default: all)")
    option("--test", action="append", metavar="SOURCE", help="to be measured on, with known answers; repeatable")
    option("--test-limit", type=int, metavar="N", help="of the problems to be measured on")
    add_skip_option(experiment)
    option("--max-new-tokens", type=int, metavar="N", help="per response to learn from (default 128)")
    option("--test-max-new-tokens", type=int, metavar="N", help="per response that is judged")
    option(
        "--arm",
        action="append",
        default=[],
        metavar="NAME=VALUE,…",
        help="settings of an arm, named like the options of finetune; VALUE may be several, divided by |; repeatable. "
        "Example: --arm learning_rate=1e-3,max_steps=300,seed=0|1|2",
    )
    option(
        "--quick",
        action="store_true",
        help="a gain within a minute: few problems, few updates at a higher rate; other options change it",
    )
    option("--no-control", action="store_true", help="without the arm of random steps")
    option("--preview", type=int, metavar="N", help="problems of the preview; 0: none (default 100)")
    option("--rounds", type=int, metavar="N", help="tune the tuned expert again (default 1)")
    option(
        "--next-amateur",
        choices=("same", "expert"),
        help="of later rounds: the same amateur (default), or the expert of the round before",
    )
    option(
        "--minutes",
        type=float,
        metavar="N",
        help="lower the numbers of problems and updates so that it takes about N minutes on this machine",
    )
    option("--stop-worse", action="store_true", help="end evaluations of clearly worse arms early")
    option("--run-dir", type=local_folder, required=True, metavar="DIR", help="folder of the experiment")
    add_report_option(experiment)
    option(
        "--dry-run",
        action="store_true",
        help="check access to every model and dataset; print their sizes, the GPU time and the stages; run nothing",
    )
    experiment.set_defaults(run=run_experiment_verb)


def local_folder(text: str) -> Path:
    """A --run-dir. Raises ArgumentTypeError for an address."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"the runs lie beside it, so it must be a folder of this machine, not {text}")
    return Path(text)


#: Options that a plan's file holds instead.
GIVEN = ("problems", "limit", "test", "test_limit", "max_new_tokens", "test_max_new_tokens", "preview", "rounds")
GIVEN += ("next_amateur",)


def plan_from(options: argparse.Namespace):
    """The one Plan of the file or of the options. Raises UserError."""
    plans = plans_from(options)
    if "" not in plans:
        raise UserError(f"{options.plan} holds several experiments; run it with the command experiment.")
    return plans[""]


def plans_from(options: argparse.Namespace) -> dict:
    """The plans of the file by their names, or the one of the options, called "". Raises UserError."""
    from lightreasoner.experiments.plan import plan_of, quick_tables, read_plans

    in_file = {name: value for name, value in given(options, *GIVEN).items() if value is not None}
    others = given(options, "quick", "no_control", "arm", "pair", "expert", "amateur")
    flags = given(options, "skip_unreadable", "stop_worse")
    if options.plan is not None:
        if named := [name for name, value in (in_file | others | flags).items() if value]:
            raise UserError(
                f"The plan in {options.plan} decides everything; leave out --{named[0].replace('_', '-')}, or change "
                "the plan."
            )
        return read_plans(options.plan)
    name, expert, amateur = pair_refs(options)
    quick = quick_tables(name) if options.quick else {}
    tables = quick | in_file | {"expert": expert, "amateur": amateur, "control": not options.no_control}
    return {"": plan_of(tables | flags | {"pair": name, "arm": [parse_arm(text) for text in options.arm]})}


def parse_arm(text: str) -> dict:
    """The settings in NAME=VALUE,…; a value with | is a list. Raises UserError."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, is_set, value = part.partition("=")
        if not is_set or not name.strip() or not value.strip():
            raise UserError(f"--arm has {part!r:.60}; write its settings as NAME=VALUE, divided by commas.")
        values = [_value(one.strip()) for one in value.split("|")]
        found[name.strip().replace("-", "_")] = values if len(values) > 1 else values[0]
    return found


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def run_experiment_verb(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.experiments.report import REPORT, sentence
    from lightreasoner.experiments.results import arm_results
    from lightreasoner.experiments.run import run_experiment
    from lightreasoner.experiments.series import TABLE, markdown, run_series

    settings = reporting(options, settings)
    plans = plans_from(options)
    if options.dry_run:
        return dry_run(plans, options.run_dir.absolute(), settings)

    def console(inner: Progress) -> Progress:
        return ConsoleProgress(progress_line, inner)

    if "" not in plans:
        if options.minutes:
            raise UserError(
                f"{options.plan} holds several experiments, and --minutes is the budget of one; leave it out."
            )
        compared = run_series(plans, options.run_dir, settings, console, print)
        return print(f"{markdown(compared)}The table is {options.run_dir / TABLE}")
    stages = run_experiment(plans[""], options.run_dir, settings, console, options.minutes)
    results = arm_results(stages)
    print("\n".join([*table(results), sentence(results), f"The report is {options.run_dir / REPORT}"]))


def dry_run(plans: dict, folder: Path, settings: Settings) -> None:
    """Print the stages of plans, what they need and how long they take. Raises UserError for what cannot be had."""
    from lightreasoner.experiments.requirements import gpu_time, no_room, requirements
    from lightreasoner.experiments.run import check
    from lightreasoner.experiments.series import folder_of
    from lightreasoner.experiments.stages import round_stages
    from lightreasoner.formatting import format_bytes

    needed = [one for one in requirements(plans.values()) if one.trouble or one.source != "here"]
    troubles = sum(bool(one.trouble) for one in needed)
    for name, plan in plans.items():
        own = folder_of(folder, name) if name else folder
        if not troubles:
            check(plan, own, settings)
        if name or needed:
            print(f"\n{name + ': ' if name else ''}{plan.title}. {gpu_time([plan])}")
        for stage in round_stages(plan, own):
            print(f"{stage.state:12} {stage.title:50} {stage.folder}")
    print("\n" * bool(needed), end="")
    for one in needed:
        print(one.line + (f"\n         {one.trouble}" if one.trouble else ""))
    if needed:
        print(f"To download: {format_bytes(sum(one.size or 0 for one in needed))}")
    if len(plans) > 1:
        print(f"All {len(plans)} experiments: {gpu_time(plans.values())}")
    if troubles:
        raise UserError(f"{troubles} models or datasets cannot be had; the lines above say why.")
    if full := no_room(needed):
        raise UserError(full)


def progress_line(done: float, total: float | None, numbers: dict) -> str:
    return f"{100 * done / total:.0f} % · {numbers['stage']}" if total else ""


def table(results: list) -> list[str]:
    """The arms of an experiment for a terminal."""
    lines = [f"{'arm':40} {'pass@1':>8} {'change':>7} {'95 % interval':>16} {'gained':>7} {'lost':>5}"]
    for arm in results:
        interval = in_points(arm.low, arm.high)
        name = arm.label if arm.round == 1 else f"round {arm.round}: {arm.label}"
        lines.append(
            f"{name[:40]:40} {100 * arm.pass_at_1:6.1f} % {100 * arm.difference:+7.1f} {interval:>16} {arm.gained:7,} "
            f"{arm.lost:5,}"
        )
    return lines
