"""The documentation against the code."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

from lightreasoner import __version__
from lightreasoner.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[2]


def test_pictures_and_pages_that_are_linked_are_there():
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page} links to {link}"


def test_the_newest_section_of_the_changelog_is_the_packages_version(capsys):
    newest = re.search(r"^## (\S+?)(,|:|$)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert newest == __version__
    try:
        build_parser().parse_args(["--version"])
    except SystemExit as ended:
        assert ended.code == 0 and capsys.readouterr().out == f"lightreasoner {newest}\n"


def blocks(language: str, page: Path = ROOT / "README.md") -> list[str]:
    """A page's code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readmes_python_runs(capsys):
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert re.match(r" *\d+\.\d{3} nats  '", capsys.readouterr().out)


def test_the_commands_of_all_pages_are_accepted():
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    lines = "\n".join(block for page in pages for block in blocks("sh", page)).replace("\\\n", " ").splitlines()
    commands = [line.partition("-m lightreasoner ")[2] for line in lines if "-m lightreasoner " in line]
    assert len(commands) >= 20
    for command in commands:
        words = shlex.split(command, comments=True)
        if words[-1] == "…" and not words[-2].startswith("--"):  # more options, left out
            words.pop()
        build_parser().parse_args(words)


def test_the_names_of_the_glossary_exist():
    names = re.findall(r"`(\w[\w.]*)`", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"))
    assert len(names) >= 20
    for name in names:
        package, *rest = name.split(".")
        found = import_module(f"lightreasoner.{package}")
        if not hasattr(found, rest[0]):
            found = import_module(f"lightreasoner.{package}.{rest.pop(0)}")
        for part in rest:
            known = {**getattr(found, "__dataclass_fields__", {}), **vars(found)}
            assert part in known, f"docs/glossary.md names {name}, and there is no {part}"
            found = known[part]
