"""The verb pairs lists the presets; the options that name a pair are shared by other verbs."""

import argparse

from lightreasoner.cli.console import print_json
from lightreasoner.errors import UserError
from lightreasoner.settings import Settings


def add(verbs) -> None:
    pairs = verbs.add_parser("pairs", help="list the preset pairs")
    pairs.add_argument("--json", action="store_true", help="print JSON")
    pairs.set_defaults(run=run_pairs)


def run_pairs(options: argparse.Namespace, settings: Settings) -> None:
    from dataclasses import asdict

    from lightreasoner.models.pairs import presets

    if options.json:
        print_json([asdict(p) for p in presets()], 2)
        return
    for preset in presets():
        print(f"{preset.name}\n  {preset.title}\n  expert  {preset.expert}\n  amateur {preset.amateur}")
        print(f"  needs about {preset.memory_gb:g} GB. {preset.why}\n")


def add_pair_options(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """several: whether more than one amateur makes sense, see `expert_and_amateurs`."""
    more = "; repeat it to measure several beside the same expert" if several else ""
    parser.add_argument("--pair", metavar="NAME", help="a preset listed by the verb pairs (default: the bundled pair)")
    parser.add_argument("--expert", metavar="REF", help="the stronger model")
    parser.add_argument("--amateur", action="append", metavar="REF", help=f"the weaker model{more}")


def pair_refs(options: argparse.Namespace) -> tuple[str | None, str, str]:
    """(preset name or None, expert, amateur) of the options. Raises UserError."""
    name, expert, amateurs = expert_and_amateurs(options)
    if len(amateurs) > 1:
        raise UserError(
            f"--amateur was given {len(amateurs)} times, but this command takes one amateur; name one. To "
            "compare several, use compare-amateurs."
        )
    return name, expert, amateurs[0]


def expert_and_amateurs(options: argparse.Namespace) -> tuple[str | None, str, list[str]]:
    """(preset name or None, expert, its amateurs, at least one) of the options. Raises UserError."""
    from lightreasoner.datasets.amateurs import check_amateurs
    from lightreasoner.models.pairs import find_preset, presets

    if "" in (options.pair, options.expert, *(options.amateur or ())):  # a variable of the shell that is not set
        raise UserError("A model or pair is named by an empty text; name it, or leave the option out.")
    if options.pair and (options.expert or options.amateur):
        raise UserError("--pair already names both models; give either --pair or --expert and --amateur.")
    if bool(options.expert) != bool(options.amateur):
        raise UserError("A pair needs both models; give --expert and --amateur, or --pair.")
    if options.expert:
        return None, options.expert, check_amateurs(options.amateur)
    preset = find_preset(options.pair) if options.pair else presets()[0]
    return preset.name, preset.expert, [preset.amateur]
