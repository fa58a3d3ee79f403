"""The tree of the code at the end of the README, one line a file, out of the files' own first sentences.

python scripts/code_tree.py          rewrites README.md; a test checks that it is what this would write
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
HEADING = "## The code\n"
FOLDERS = {
    "lightreasoner": "the engine; imports no Gradio",
    "lightreasoner/commands": "the verbs of the command line, one file each",
    "lightreasoner/jobs": "long-running work: queue, processes, progress",
    "ui": "the page; Gradio only",
    "assets/js": "what runs in the browser",
    "assets/css": "how it looks",
    "scripts": "what is run by hand",
    "benchmarks": "what speed claims rest on",
}
TOP = {
    "app.py": "settings → page → launch: what people and Spaces run",
    "Makefile": "run, test, bench, lint",
    "Dockerfile": "the app in a container; .dockerignore says what gets in",
    "requirements.txt": "what the app needs, every version pinned",
    "requirements-dev.txt": "what the tests need on top",
    "requirements-train.txt": "what training the bundled pair needs on top",
}
OTHERS = {
    "assets/pairs.toml": "the preset pairs",
    "assets/paper.toml": "the paper's numbers",
    "assets/models/": "the bundled pair with its cards",
    "assets/problems/": "the bundled problems",
    "assets/standalone.html": "the shell of an exported trace",
    "tests/": "fast ones on tiny models, real ones on the bundled pair, some in a browser",
    "docs/": "deploy.md: where it runs; log.md: what was tried; results.md: the experiment; benchmarks.md: speed",
}
SUFFIXES = {".py", ".js", ".css", ".sh"}


def sentence(path: Path) -> str:
    """The first sentence that a file says of itself; a colon's list or a second sentence is left out."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        said = ast.get_docstring(ast.parse(text)) or ""
        said = said.split("\n\n")[0]
    else:
        text = text.removeprefix("#!/bin/sh\n")
        found = re.match(r"/\*(.*?)\*/|((?://|#)[^\n]*\n(?:(?://|#)[^\n]*\n)*)", text, re.DOTALL)
        said = re.sub(r"^\s*(//|#) ?", "", found.group(1) or found.group(2), flags=re.MULTILINE) if found else ""
    said = re.split(r"(?<=[^.])\. |\.$", " ".join(said.split()))[0]
    word = said.split(" ")[0]
    return said[:1].lower() + said[1:] if word == word.capitalize() else said  # LoRA and KL stay as they are


def tree() -> str:
    lines = [f"{name:31} {says}" for name, says in TOP.items()]
    for folder, says in FOLDERS.items():
        lines.append(f"{folder + '/':31} {says}")
        for path in sorted((ROOT / folder).iterdir()):
            if path.suffix in SUFFIXES and not path.name.startswith("__"):
                lines.append(f"  {path.name:29} {sentence(path)}")
    lines += [f"{name:31} {says}" for name, says in OTHERS.items()]
    return "```\n" + "\n".join(line.rstrip() for line in lines) + "\n```\n"


def with_tree(readme: str) -> str:
    return readme[: readme.index(HEADING)] + HEADING + "\n" + tree()


if __name__ == "__main__":
    README.write_text(with_tree(README.read_text(encoding="utf-8")), encoding="utf-8")
