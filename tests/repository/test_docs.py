"""The documentation against the code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_pictures_and_pages_that_are_linked_are_there():
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/log.md", "docs/deploy.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"
