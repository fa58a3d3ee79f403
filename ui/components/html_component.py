"""What the page's gr.HTML components share: their scripts."""

from __future__ import annotations

import json

from lightreasoner.paper import ALPHA, ALPHA_FLOOR, BETA, TIE
from lightreasoner.scoring.measures import MEASURES
from lightreasoner.settings import ASSETS

OWNERS = "\nif (!window.lrVisitor) "  # before what mounts a part that visitors of a public server do not see


def script(*names: str) -> str:
    """These scripts, after the engine's numbers that they read: PAPER and MEASURES."""
    constants = {
        "PAPER": {"alpha": ALPHA, "beta": BETA, "alphaFloor": ALPHA_FLOOR, "tie": TIE},
        "MEASURES": [{name: getattr(m, name) for name in ("key", "name", "says", "full", "tuned")} for m in MEASURES],
    }
    lines = [f"const {name} = {json.dumps(value)};" for name, value in constants.items()]
    return "\n".join(lines + [(ASSETS / "js" / f"{name}.js").read_text(encoding="utf-8") for name in names])
