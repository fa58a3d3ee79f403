"""The option --report-to, which names a tracker that mirrors a run's numbers."""

import argparse
from dataclasses import replace

from lightreasoner.jobs.trackers import TRACKERS, check_tracker
from lightreasoner.settings import Settings


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
