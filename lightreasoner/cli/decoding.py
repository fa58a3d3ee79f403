"""The options of decoding that several verbs share: stop strings, and contrasts of two models."""

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


def add_contrast_options(parser: argparse.ArgumentParser, alpha: str, beta: str) -> None:
    """alpha, beta: the defaults, written as the user would write them."""
    parser.add_argument("--alpha", default=alpha, metavar="A,…", help=f"plausibility thresholds (default {alpha})")
    parser.add_argument("--beta", default=beta, metavar="B,…", help=f"KL thresholds in nats (default {beta})")
    parser.add_argument(
        "--takeover",
        action="store_true",
        help="the amateur writes, and where KL is above β the expert's choice is taken in place of its own",
    )


def contrasts(options: argparse.Namespace) -> tuple:
    """A Contrast of each α with each β; a takeover has no α. Raises UserError."""
    from lightreasoner.decoding.contrast import parse_contrasts

    return parse_contrasts(options.alpha, options.beta, options.takeover, ("--alpha", "--beta"))
