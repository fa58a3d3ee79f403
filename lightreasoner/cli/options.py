"""Options that several verbs share."""

import argparse
from dataclasses import replace
from typing import Any

from lightreasoner.jobs.trackers import TRACKERS, check_tracker
from lightreasoner.settings import Settings
from lightreasoner.storage.remote import run_path


class Once(argparse.Action):
    """Stores the value of an option. Of two different values argparse would take the last one silently."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        before = getattr(namespace, self.dest, self.default)
        if before != self.default and before != values:
            raise argparse.ArgumentError(self, f"given twice, as {before} and as {values}; it takes one, so name one")
        setattr(namespace, self.dest, values)


def add_run_dir(parser: argparse.ArgumentParser, help: str, required: bool = True) -> None:
    parser.add_argument("--run-dir", type=run_path, required=required, metavar="DIR", help=help)


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The values of some options, to be passed on under the same names."""
    return {name: getattr(options, name) for name in names}


def add_skip_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="use the rest of a file that has rows which cannot be read"
    )


def first_problem(options: argparse.Namespace, split: str | None, settings: Settings) -> Any:
    """The first Problem of --problems. Raises UserError."""
    from lightreasoner.problems.stream import open_problems

    limits = {"limit": 1, "max_chars": settings.max_problem_chars, "skip_unreadable": options.skip_unreadable}
    return next(iter(open_problems(options.problems, split=split, **limits)))


def workers_of(options: argparse.Namespace) -> int | None:
    """The number of Ray workers; None where the verb computes itself."""
    return options.num_workers if options.backend == "ray" else None


def add_report_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--report-to",
        choices=tuple(TRACKERS),
        help="mirror the numbers to a tracker, which must be installed and set up (default: nothing is sent anywhere)",
    )


def reporting(options: argparse.Namespace, settings: Settings) -> Settings:
    """The settings with the tracker that the options name. Raises UserError for one that is not installed."""
    named = options.report_to or settings.report_to
    if named:
        check_tracker(named)
    return replace(settings, report_to=named)
