"""The options on files of problems that several verbs share."""

import argparse
from typing import Any

from lightreasoner.settings import Settings


def add_skip_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="use the rest of a file that has rows which cannot be read"
    )


def first_problem(options: argparse.Namespace, split: str | None, settings: Settings) -> Any:
    """The first Problem of --problems. Raises UserError."""
    from lightreasoner.problems.stream import open_problems

    limits = {"limit": 1, "max_chars": settings.max_problem_chars, "skip_unreadable": options.skip_unreadable}
    return next(iter(open_problems(options.problems, split=split, **limits)))
