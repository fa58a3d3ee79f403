"""What the page's gr.HTML components share: their scripts."""

from __future__ import annotations

from lightreasoner.settings import ASSETS

OWNERS = "\nif (!window.lrVisitor) "  # before what mounts a part that visitors of a public server do not see


def script(*names: str) -> str:
    return "\n".join((ASSETS / "js" / f"{name}.js").read_text(encoding="utf-8") for name in names)
