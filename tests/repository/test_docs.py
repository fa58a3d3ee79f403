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
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/log.md", "docs/deploy.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"


def test_the_newest_section_of_the_changelog_is_the_packages_version(capsys):
    newest = re.search(r"^## (\S+?)(,|:|$)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert newest == __version__
    try:
        build_parser().parse_args(["--version"])
    except SystemExit as ended:
        assert ended.code == 0 and capsys.readouterr().out == f"lightreasoner {newest}\n"


def blocks(language: str) -> list[str]:
    """The README's code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_readmes_python_runs(capsys):
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert re.match(r" *\d+\.\d{3} nats  '", capsys.readouterr().out)


def test_the_readmes_commands_are_accepted():
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    commands = [line.partition("-m lightreasoner ")[2] for line in lines if "-m lightreasoner " in line]
    assert len(commands) >= 6
    for command in commands:
        build_parser().parse_args(shlex.split(command, comments=True))


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
