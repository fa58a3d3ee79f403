"""The documentation against the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import code_tree  # noqa: E402


def test_the_readme_ends_with_the_tree_of_the_code():
    """When it does not: python scripts/code_tree.py."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == code_tree.with_tree(readme)


def test_every_file_says_what_it_is():
    for line in code_tree.tree().splitlines()[1:-1]:
        name, _, says = line.strip().partition("  ")
        assert says.strip(), f"{name} says nothing of itself"


def test_pictures_and_pages_that_are_linked_are_there():
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/log.md", "docs/deploy.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"
