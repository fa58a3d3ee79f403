"""Take the README's pictures anew: real runs of the bundled pair in a workspace of their own. Takes some minutes.

python -m tests.support.pictures [WORKSPACE]      a workspace that has the runs already is only photographed
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from lightreasoner.settings import ROOT
from tests.support.browser import App, Inspect, launch_chromium

FOLDER = ROOT / "docs" / "img"
RUNS = {tab: f"{tab}-of-the-pictures" for tab in ("datasets", "finetune", "evaluate")}
EXPERT = "lightreasoner-expert-4m"
WIDE, PHONE = {"width": 1440, "height": 1000}, {"width": 390, "height": 1400}


def make_runs(workspace: Path) -> None:
    """A dataset, a fine-tuned model and an evaluation; what is there already is left as it is."""
    dataset, tuned, scores = (workspace / "runs" / run_id for run_id in RUNS.values())
    for command in (
        ["sample", "--problems", "bundled-train", "--limit", "512", "--run-dir", dataset],
        ["finetune", "--dataset", dataset, "--learning-rate", "1e-3", "--max-steps", "150", "--run-dir", tuned],
        [
            "evaluate",
            "--model",
            EXPERT,
            "--adapter",
            tuned,
            "--problems",
            "bundled-test",
            "--limit",
            "200",
            "--run-dir",
            scores,
        ],
    ):
        subprocess.run([sys.executable, "-m", "lightreasoner", *map(str, command)], cwd=ROOT, check=True)


def inspect(page: Page, url: str, name: str) -> None:
    tab = Inspect(page).open(url)
    tab.run()
    tab.select(int(tab.above.nth(0).get_attribute("data-index")))
    if name == "mobile":
        page.locator(".lr-root").first.scroll_into_view_if_needed()
    save(page, name)


def save(page: Page, name: str) -> None:
    page.wait_for_timeout(1500)  # what fades in has arrived
    page.mouse.move(0, 0)
    page.screenshot(path=FOLDER / f"{name}.png")


def take(workspace: Path) -> None:
    """Write every picture."""
    app = App(workspace).start()
    with sync_playwright() as playwright:
        chromium = launch_chromium(playwright)
        for name, viewport, scheme in (("inspect", WIDE, "light"), ("dark", WIDE, "dark"), ("mobile", PHONE, "light")):
            page = chromium.new_context(viewport=viewport, color_scheme=scheme).new_page()
            inspect(page, app.url, name)
        for tab, run_id in RUNS.items():
            page = chromium.new_context(viewport=WIDE, color_scheme="light").new_page()
            page.goto(f"{app.url}?tab={tab}&{'dataset' if tab == 'datasets' else 'run'}={run_id}")
            page.wait_for_timeout(4000)
            save(page, tab)
        chromium.close()
    app.stop()


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()).absolute()
    make_runs(place)
    take(place)
