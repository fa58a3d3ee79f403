"""Publishing in a real browser: a dataset is pushed with a typed token, asked about, and pulled back in."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from lightreasoner.storage.atomic import new_id
from tests.publishing.test_push import WRITER, sums
from tests.support.browser import PATIENCE
from tests.support.hub_server import Account, Hub
from tests.support.tiny_dataset import make_dataset
from tests.support.tiny_tuning import make_run

pytestmark = pytest.mark.browser
JOB = 4 * PATIENCE  # ms until a job's process has started and done its part


@pytest.fixture
def hub():
    with Hub() as hub:
        hub.accounts[WRITER] = Account("me")
        yield hub


@pytest.fixture
def server(own_app, hub):
    env = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return own_app.start(**env | {"NO_PROXY": "127.0.0.1,localhost"})


def test_a_dataset_is_pushed_replaced_and_pulled(server, hub, visitors, tmp_path):
    dataset = server.workspace / "runs" / new_id()
    make_dataset(dataset, problems=6, tokens=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.csv").write_text("a\n")
    hub.add("me/data", tmp_path / "other", "dataset", private=True)
    page = visitors.context(server.url).new_page()
    page.goto(f"{server.url}?tab=datasets&dataset={dataset.name}")
    push = page.locator("#lr-datasets .lr-run-view .lr-hub")
    push.locator("summary").click()
    button = push.get_by_role("button", name="Push", exact=True)
    expect(push.get_by_label("Private")).to_be_checked()
    push.get_by_label("Repository").fill("me/<b>data</b>")
    push.get_by_label("Access token").fill(WRITER)
    button.click()
    expect(push.locator(".lr-error")).to_contain_text("is not a repository")
    push.get_by_label("Repository").fill("me/data")
    button.click()
    expect(push.locator(".lr-error")).to_be_hidden()
    expect(push.get_by_label("Access token")).to_have_value("")
    expect(push.locator(".lr-hub-status")).to_contain_text("exists already and holds another file", timeout=JOB)
    push.get_by_role("button", name="Replace").click()
    expect(push.locator(".lr-hub-status")).to_contain_text("Pushed to", timeout=JOB)
    assert hub.repos["dataset", "me/data"].private and "a.csv" not in hub.repos["dataset", "me/data"].files

    pull = page.locator("#lr-datasets .lr-hub-pull")
    pull.locator("summary").click()
    pull.get_by_label("Repository").fill("me/data")
    pull.get_by_label("Access token").fill(WRITER)
    report = Axe().run(page, context="#lr-datasets", options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]})
    assert not report.response["violations"], report.generate_report()
    pull.get_by_role("button", name="Pull", exact=True).click()
    expect(pull.locator(".lr-hub-status")).to_contain_text("Pulled", timeout=JOB)
    expect(page.locator("#lr-datasets .lr-run-entry")).to_have_count(2)
    [back] = [run for run in (server.workspace / "runs").iterdir() if run != dataset and (run / "run.json").is_file()]
    assert sums(back) == sums(dataset)
    expect(page.locator("#lr-datasets .lr-run-view .lr-steps tbody tr").first).to_be_visible()
    assert f"dataset={back.name}" in page.url, "what has come is opened"
    assert WRITER not in page.url and WRITER not in server.log.read_text()


def test_the_adapter_of_a_run_is_pushed(server, hub, visitors):
    run = make_run(server.workspace / "runs" / new_id(), server.workspace / "runs" / new_id())
    page = visitors.context(server.url, viewport={"width": 390, "height": 844}).new_page()
    page.goto(f"{server.url}?tab=finetune&run={run.name}")
    push = page.locator("#lr-finetune .lr-hub")
    push.locator("summary").click()
    push.get_by_label("Repository").fill("me/lora")
    push.get_by_label("Private").uncheck()
    push.get_by_label("Licence").fill("apache-2.0")
    push.get_by_label("Access token").fill(WRITER)
    push.get_by_role("button", name="Push", exact=True).click()
    expect(push.locator(".lr-hub-status")).to_contain_text("Pushed to", timeout=JOB)
    repo = hub.repos["model", "me/lora"]
    assert not repo.private and "adapter_model.safetensors" in repo.files
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out on a phone"
