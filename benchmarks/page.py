"""The page in a browser: bytes and time to the first token, selecting a token, moving β, drawing the training curves.

    python -m benchmarks.page [--against FOLDER] [--rounds 7] [--runs FOLDER]

--against: another checkout of this project, measured by turns with this one. --runs: a run folder of `finetune`, of
which two copies are opened by turns.

Starts app.py of each checkout in a process of its own and drives a headless Chromium. The long traces are the bundled
pair's response, repeated; no model runs for them. Times are taken in the page, from the event to the end of the frame
that shows its effect; of the training curves it is the work of the page's main thread until all are drawn.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from lightreasoner.settings import ROOT
from lightreasoner.storage.atomic import new_id
from tests.support.browser import ENVIRONMENT, free_port, launch_chromium

LENGTHS = (500, 5000)
COPIES = ("copy-of-a-finetune-run", "copy-of-the-run-again2")
#: A function of the page: milliseconds from what `act` does to the end of the frame that shows it.
FRAME = """const frame = (act) => new Promise((resolve) => {
  const began = performance.now();
  act();
  requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - began)));
});"""
#: Milliseconds from a click on a token to its distributions.
SELECT = """async (index) => {
  const began = performance.now(), shown = () => document.querySelector('.lr-step h3')?.textContent
    .startsWith('Step ' + index + ' ') && document.querySelector('.lr-step .lr-rows');
  document.querySelectorAll('.lr-token')[index].click();
  while (!shown()) await new Promise((resolve) => setTimeout(resolve));
  return performance.now() - began;
}"""
FIRST_TOKEN = """async () => {
  const began = performance.now(), shown = () => document.querySelector('.lr-token'), example = shown();
  Array.from(document.querySelectorAll('button')).find((b) => b.textContent.trim() === 'Run').click();
  while (!shown() || shown() === example) await new Promise((resolve) => setTimeout(resolve));
  return performance.now() - began;
}"""


class Server:
    """A checkout's app, with a workspace of its own."""

    def __init__(self, checkout: Path, workspace: Path):
        self.url = f"http://127.0.0.1:{(port := free_port())}/"
        self.traces = workspace / "traces"
        env = os.environ | ENVIRONMENT | {"LIGHTREASONER_WORKSPACE": str(workspace)}
        command = [sys.executable, "app.py", "--port", str(port)]
        self.process = subprocess.Popen(command, cwd=checkout, env=env, stdout=subprocess.DEVNULL)
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)

    def long_trace(self, steps: int) -> str:
        """The id of a saved trace with so many steps: those of the newest one, repeated."""
        newest = max(self.traces.glob("*.json"), key=lambda path: path.stat().st_mtime)
        record = json.loads(newest.read_text())
        own = record["steps"]
        record |= {"id": new_id(), "steps": [own[i % len(own)] | {"index": i} for i in range(steps)]}
        (self.traces / f"{record['id']}.json").write_text(json.dumps(record))
        return record["id"]


def opened(chromium: Browser, url: str) -> tuple[Page, list[int]]:
    """A page of a visitor who never was there, and the sizes of what it loads."""
    page = chromium.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    loaded: list[int] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: loaded.append(event["encodedDataLength"]))
    page.goto(url)
    return page, loaded


def first_token(chromium: Browser, server: Server) -> dict[str, float]:
    began = time.perf_counter()
    page, loaded = opened(chromium, server.url)
    page.wait_for_selector(".lr-intro")
    found = {"open the page, ms": 1000 * (time.perf_counter() - began)}
    page.wait_for_timeout(2000)  # what it loads without being asked
    found["loaded before the first run, kB"] = sum(loaded) / 1000
    found["Run to the first token, ms"] = page.evaluate(FIRST_TOKEN)
    page.wait_for_function("() => new URLSearchParams(location.search).get('trace')")  # this run's own
    page.wait_for_selector(".lr-state:has-text('tokens in')")
    page.context.close()
    return found


def moving(chromium: Browser, server: Server, length: int) -> dict[str, float]:
    page, _ = opened(chromium, f"{server.url}?trace={server.long_trace(length)}")
    page.wait_for_function("n => document.querySelectorAll('.lr-token').length === n", arg=length)
    page.wait_for_timeout(3000)  # the curve is drawn
    selected = [page.evaluate(SELECT, length // 2 + i) for i in range(8)]
    slide = """(beta) => { const slider = document.querySelector('.lr-beta'); slider.value = beta;
      slider.dispatchEvent(new Event('input', { bubbles: true })); }"""
    betas = [0.4 + 0.02 * i for i in range(10)]
    moved = [page.evaluate(f"(beta) => {{ {FRAME} return frame(() => ({slide})(beta)); }}", beta) for beta in betas]
    page.context.close()
    return {
        f"select one of {length} tokens, ms": statistics.median(selected),
        f"move β over {length} tokens, ms": statistics.median(moved),
    }


def curves(chromium: Browser, server: Server) -> dict[str, float]:
    """Opening one of two runs after the other, with all of its curves."""
    page, _ = opened(chromium, f"{server.url}?tab=finetune&run={COPIES[0]}")
    page.wait_for_selector(".lr-curves .lr-chart")
    page.wait_for_timeout(3000)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def work() -> float:
        return next(
            m["value"] for m in session.send("Performance.getMetrics")["metrics"] if m["name"] == "TaskDuration"
        )

    taken = []
    for turn in range(6):
        before = work()
        page.locator(f'button[data-id="{COPIES[(turn + 1) % 2]}"]').click()
        page.wait_for_timeout(2500)
        taken.append(1000 * (work() - before))
    page.context.close()
    return {"draw all curves of a run, ms of work": statistics.median(taken)}


def measure(checkouts: dict[str, Path], rounds: int, run: Path | None) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = launch_chromium(playwright)
        for name, copy in itertools.product(checkouts, COPIES if run else ()):
            shutil.copytree(run, Path(folder) / name / "runs" / copy)
        servers = {name: Server(path, Path(folder) / name) for name, path in checkouts.items()}
        try:
            for turn in range(rounds + 1):  # the first one loads the models
                for name, server in servers.items():
                    numbers = first_token(chromium, server)
                    for length in LENGTHS:
                        numbers |= moving(chromium, server, length)
                    numbers |= curves(chromium, server) if run else {}
                    for what, value in numbers.items():
                        found[what][name] += [value] * (turn > 0)
        finally:
            for server in servers.values():
                server.process.terminate()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=Path, help="a run folder of finetune")
    asked = parser.parse_args()
    checkouts = {"this": ROOT} | ({"other": asked.against} if asked.against else {})
    for what, values in measure(checkouts, asked.rounds, asked.runs).items():
        print(f"{what:36}", *(f"{name} {statistics.median(one):8.1f}" for name, one in values.items()))


if __name__ == "__main__":
    main()
