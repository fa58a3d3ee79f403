"""The options of decoding that several verbs share: stop strings, and contrasts of two models."""

import argparse

from lightreasoner.cli.options import Once


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
    """alpha, beta: the usual values, as `contrasts` gets them."""
    parser.add_argument("--alpha", action=Once, metavar="A,…", help=f"plausibility thresholds (default {alpha})")
    parser.add_argument("--beta", action=Once, metavar="B,…", help=f"KL thresholds in nats (default {beta})")
    parser.add_argument("--cap", type=float, metavar="C", help="cap on the target's log ratio, in nats (default none)")
    parser.add_argument(
        "--takeover",
        action="store_true",
        help="the amateur writes, and where KL is above β the expert's choice is taken in place of its own",
    )


def contrasts(options: argparse.Namespace, alpha: str, beta: str) -> tuple:
    """A Contrast of each α with each β; a takeover has no α and no cap. Raises UserError.

    alpha, beta: the usual values, written as the user would write them.
    """
    from lightreasoner.decoding.contrast import parse_contrasts

    return parse_contrasts(
        alpha if options.alpha is None else options.alpha,
        beta if options.beta is None else options.beta,
        options.takeover,
        ("--alpha", "--beta"),
        options.cap,
    )
