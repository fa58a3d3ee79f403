"""The options of decoding that all verbs that generate share."""

import argparse


def add_stop_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help=r"also end a response at this text, which is left out of it; \n and \t are line break and tab; repeatable",
    )


def stop_strings(options: argparse.Namespace) -> tuple[str, ...]:
    """The stop strings of the options. Raises UserError."""
    from lightreasoner.models.turn_ends import parse_stops

    return parse_stops(options.stop)
