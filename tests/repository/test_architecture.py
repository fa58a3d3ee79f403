"""The layers of docs/architecture.md against the imports, and the page against the files."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import architecture  # noqa: E402

LEVELS = {name: level for level, names in enumerate(architecture.LAYERS) for name in names}
RULE = "docs/architecture.md: a module imports from its own package and from the layers below it"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {
    module_of(path): path for folder in ("lightreasoner", "ui") for path in sorted((ROOT / folder).rglob("*.py"))
}


def package_of(module: str) -> str | None:
    """The name that LAYERS has for the package or top-level module; None for the roots, which hold no code."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    return parts[1] if parts[0] == "lightreasoner" else ".".join(parts[:2])


def imports(path: Path) -> set[tuple[str, str]]:
    """(module, name) of every import of our own code, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("lightreasoner", "ui"):
            assert node.level == 0, f"{path.relative_to(ROOT)}: relative imports hide which package they reach into"
            found |= {(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names if alias.name.split(".")[0] in ("lightreasoner", "ui")}
    return found


def targets(path: Path) -> set[str]:
    """The modules that a file imports."""
    return {
        f"{module}.{name}" if f"{module}.{name}" in MODULES else module
        for module, name in imports(path)
        if module != "lightreasoner" or f"{module}.{name}" in MODULES
    }


def advice(importer: str, imported: str) -> str:
    """Which rule an import breaks, and where what it needs belongs."""
    mine, its = package_of(importer), package_of(imported)
    if LEVELS[mine] == LEVELS[its]:
        below = ", ".join(architecture.LAYERS[LEVELS[mine] - 1])
        return f"{mine} and {its} stand beside each other; what both need belongs below them (into {below} or lower)"
    return f"{its} stands above {mine}; move what {importer} needs down into {mine} or below, or pass it as an argument"


@pytest.mark.parametrize("module", [m for m in MODULES if package_of(m) and not m.endswith("__main__")])
def test_imports_run_downwards(module):
    mine = package_of(module)
    assert mine in LEVELS, f"{module}: {mine} has no place yet; give it one in LAYERS of scripts/architecture.py"
    for imported in sorted(targets(MODULES[module])):
        its = package_of(imported)
        if its in (None, mine):
            continue
        assert its in LEVELS, f"{module} imports {imported}, and {its} has no place in LAYERS yet"
        assert LEVELS[its] < LEVELS[mine], f"{module} imports {imported}. {RULE}: {advice(module, imported)}."


def test_modules_import_in_no_circle():
    graph = {module: targets(path) - {module} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a circle of imports: {' → '.join((*trail[trail.index(module) :], module))}"
        if module not in done:
            for imported in sorted(graph.get(module, ())):
                visit(imported, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_names_are_imported_from_where_they_are_defined():
    defined = {module: names_defined(path) for module, path in MODULES.items()}
    tests = [path for path in (ROOT / "tests").rglob("*.py") if "written_by_0_2" not in path.parts]  # run by 0.2.0
    callers = [ROOT / "app.py", *tests, *(ROOT / "benchmarks").glob("*.py"), *MODULES.values()]
    for path in callers:
        if path.parent.name == "written_by_0_2":
            continue  # runs in a checkout of 0.2.0
        for module, name in imports(path):
            if name and module in defined and f"{module}.{name}" not in MODULES:
                where = path.relative_to(ROOT)
                assert name in defined[module], f"{where} imports {name} from {module}, which only passes it on"


def names_defined(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("package", sorted({path.parent for path in MODULES.values()}), ids=lambda p: p.name)
def test_a_package_says_what_it_is_and_exports_nothing(package):
    body = ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body
    assert body and isinstance(body[0], ast.Expr), f"{package.name}/__init__.py has no docstring"
    assert not [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)], "no re-exports"


def test_the_engine_imports_no_gradio():
    for module, path in MODULES.items():
        if module.startswith("lightreasoner"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any(name.split(".")[0] == "gradio" for name in names), f"{module} imports gradio"


def test_the_page_is_up_to_date():
    """When it is not: python scripts/architecture.py."""
    assert architecture.PAGE.read_text(encoding="utf-8") == architecture.page()


def test_every_file_says_what_it_is():
    for path in architecture.files():
        assert architecture.first_sentence(ROOT / path), f"{path} says nothing of itself"


def test_who_expects_damaged_json_expects_that_it_is_nested_too_deeply():
    """100,000 brackets in results.json or verdicts.json were a traceback: RecursionError is no ValueError."""
    for path in sorted([*(ROOT / "lightreasoner").rglob("*.py"), *(ROOT / "ui").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Try | ast.With) or not _reads_json(node.body):
                continue
            if isinstance(node, ast.Try):
                caught = " ".join(ast.unparse(handler.type) for handler in node.handlers if handler.type)
            else:
                items = " ".join(ast.unparse(item.context_expr) for item in node.items)
                caught = items if "suppress" in items else ""
            assert "ValueError" not in caught or "RecursionError" in caught, f"{path}:{node.lineno}"


def _reads_json(body: list[ast.stmt]) -> bool:
    calls = [node for statement in body for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return any(ast.unparse(call.func) in ("json.loads", "json.load") for call in calls)


def imported_at_once(path: Path) -> set[str]:
    """The modules of our own code that a file imports when it is imported itself, that is, outside of functions."""
    found, rest = set(), list(ast.parse(path.read_text(encoding="utf-8")).body)
    while rest:
        node = rest.pop()
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            rest += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found & MODULES.keys()


def test_the_page_starts_without_the_trainer():
    """It brings peft and datasets, for a third of the time until the page answers; fine-tuning is a job of its own."""
    seen, rest = set(), ["ui.page"]
    while rest:
        module = rest.pop()
        seen.add(module)
        rest += imported_at_once(MODULES[module]) - seen
    assert len(seen) > 80 and "lightreasoner.training.job" in seen
    assert not {"lightreasoner.training.trainer", "lightreasoner.training.finetune"} & seen
