"""The command line: python -m lightreasoner COMMAND. Exit status 0, or 2 with one line on standard error.

Each command is a module of this package. Slow imports (torch, transformers) happen when it runs, so --help is fast.
"""

import argparse
import logging
import os
import sys
from contextlib import ExitStack, suppress
from importlib import import_module

from lightreasoner import __version__, threads
from lightreasoner.cli.console import show_everything
from lightreasoner.errors import UserError, disk_trouble
from lightreasoner.jobs.backend import HEARTBEAT
from lightreasoner.processes import heartbeat
from lightreasoner.progress import StopRequested
from lightreasoner.settings import from_environment
from lightreasoner.storage.remote import open_run

NAMES = "pairs trace check_pair preview make_amateur sample score amateurs compare_amateurs columns dataset finetune"
NAMES += " evaluate experiment hub jobs deploy"  # in the order of --help
COMMANDS = [import_module(f"lightreasoner.cli.{name}") for name in NAMES.split()]


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors and without abbreviated options."""

    def __init__(self, **options) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m lightreasoner", description="LightReasoner Studio on the command line.")
    parser.add_argument("--version", action="version", version=f"lightreasoner {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        command.add(verbs)
    return parser


def main(argv: list[str] | None = None) -> int:
    show_everything()
    logging.basicConfig(level=logging.WARNING)
    options = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
    try:
        settings = from_environment()
        threads.prepare()
        with ExitStack() as stack:
            if settings.job:  # before anything slow
                threads.step_back(settings.job_nice)
                with suppress(OSError):
                    stack.enter_context(heartbeat(settings.jobs / settings.job.partition("/")[0] / HEARTBEAT))
            if "dataset" in options:
                options.dataset = stack.enter_context(open_run(options.dataset, settings.workspace, read_only=True))
            if getattr(options, "run_dir", None):
                options.run_dir = stack.enter_context(open_run(options.run_dir, settings.workspace)).local
            options.run(options, settings)
    except UserError as error:
        return _fail(error)
    except StopRequested as stopping:  # the run's log has the outcome
        return 0 if stopping.keep else 130
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, e.g. head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        named = getattr(error, "filename", None) or "A file"
        if trouble := disk_trouble(error, "Free some space and try again."):
            return _fail(f"{named} could not be written: {trouble}")
        if isinstance(error, PermissionError):
            return _fail(f"{named} cannot be used: {error.strerror}. Give this user access to it.")
        raise
    return 0


def _fail(why: object) -> int:
    print(f"lightreasoner: {why}".replace("\n", " "), file=sys.stderr)
    return 2
