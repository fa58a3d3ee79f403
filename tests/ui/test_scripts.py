"""The browser's scripts as static files."""

import gzip
import json
import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ui.components.html_component import HtmlComponent
from ui.scripts import (
    EXAMPLE,
    FOLDER,
    PLOTLY,
    address,
    engine_constants,
    modules_of,
    scripts_route,
    start_script,
    version,
)


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(Starlette(routes=[scripts_route()]))


def test_a_script_is_cached_for_ever_under_an_address_with_its_version(client):
    answer = client.get(f"/{address('shared/dom.js')}")
    assert answer.status_code == 200 and answer.text == (FOLDER / "shared/dom.js").read_text(encoding="utf-8")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    plain = client.get(f"/{address('shared/dom.js')}", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.content == answer.content


def test_the_example_is_served_as_json(client):
    answer = client.get(f"/{address(EXAMPLE.name)}")
    assert answer.json()["id"] == engine_constants(public=False)["example"]
    assert answer.headers["content-type"] == "application/json" and len(EXAMPLE.read_bytes()) < 100_000


def test_another_version_is_not_served_and_not_cached(client):
    """A page of the server before an update would otherwise mix two versions."""
    answer = client.get("/studio/0123456789/shared/dom.js")
    assert answer.status_code == 404 and answer.headers["cache-control"] == "no-store"


def test_the_version_changes_with_a_script(tmp_path, monkeypatch):
    before = version()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/dom.js").write_text("// changed\n")
    version.cache_clear()
    monkeypatch.setattr("ui.scripts.FOLDER", tmp_path)
    try:
        assert version() != before and re.fullmatch(r"[0-9a-f]{10}", version())
    finally:
        monkeypatch.undo()
        version.cache_clear()
    assert version() == before


@pytest.mark.parametrize(
    "name",
    ["", "shared", "shared/none.js", "../css/page.css", "shared/../../css/page.css", "%2e%2e/css/page.css", "%00"],
)
def test_nothing_but_scripts_is_served(client, name):
    assert client.get(f"/studio/{version()}/{name}").status_code == 404


def test_plotly_is_the_python_packages_own(client):
    answer = client.get(f"/{address('plotly.min.js')}", headers={"accept-encoding": "gzip"})
    assert answer.content == PLOTLY.read_bytes()
    assert int(answer.headers["content-length"]) == len(gzip.compress(PLOTLY.read_bytes(), 6)) < 1_600_000


def test_modules_come_after_those_that_they_import():
    names = [name for name, _ in modules_of("inspect/standalone.js")]
    assert names[-1] == "inspect/standalone.js" and len(set(names)) == len(names)
    for at, (_, text) in enumerate(modules_of("inspect/standalone.js")):
        imported = [path.rsplit("/", 1)[-1] for path in re.findall(r" from '(\.[^']+)';", text)]
        assert all(any(name.endswith(path) for name in names[:at]) for path in imported)


def test_an_exported_file_carries_no_chart_library():
    assert "shared/chart.js" not in dict(modules_of("inspect/standalone.js"))


def components(kind: type = HtmlComponent) -> list[type[HtmlComponent]]:
    import ui.page  # noqa: F401 - defines them all

    return [
        found for one in kind.__subclasses__() if one.__module__.startswith("ui.") for found in (one, *components(one))
    ]


def test_every_component_has_a_script_that_mounts_it():
    assert len(components()) == 9
    for component in components():
        text = (FOLDER / f"{component.script}.js").read_text(encoding="utf-8")
        assert re.search(r"^export function mount\(", text, re.M), component
        triggered = set(re.findall(r"\btrigger\('(\w+)'", text))
        assert triggered == set(component.own_events), component


def test_the_start_script_names_its_events_and_version():
    code = start_script("inspect/mount", False, ["open"])
    assert f"studio/{version()}/shared/start.js" in code and '"open"' in code


def test_the_constants_are_json():
    assert json.loads(json.dumps(engine_constants(True)))["public"] is True
