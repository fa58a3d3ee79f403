"""Many visitors at once while a job trains: waiting times, failures and memory.

    python -m benchmarks.load [--sessions 32] [--minutes 6] [--no-job]
    python -m benchmarks.load --pages 1200

Starts the app in a separate process. Every session opens the page, runs problems of the bundled pair, opens steps,
exports at another α and β, and polls the jobs, as fast as it gets answers. It also prints how many hours of visits that
would be at RUNS_PER_HOUR.

--pages: only opens and leaves that many pages, and prints the server's memory at every sixth of them.
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from lightreasoner.jobs.local import LocalBackend
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import JobStore
from lightreasoner.problems.stream import load_problems
from lightreasoner.settings import ROOT, Settings
from lightreasoner.storage.atomic import new_id

STEPS, TOKENS = 20, 48  # steps opened per run; tokens per run
RUNS_PER_HOUR = 30  # of a visitor who also reads
RUNS_PER_PAGE = 10  # before the page is opened again


class Session:
    """One visitor: the requests that its page would send, one after another."""

    def __init__(self, url: str, calls: dict[str, int], waits: dict[str, list[float]], errors: list[str]):
        self._http = httpx.Client(base_url=url, timeout=300, trust_env=False)
        self._calls, self._waits, self._errors = calls, waits, errors
        self.name = ""

    def live(self, until: float, problems: list[str]) -> None:
        done = 0
        while time.monotonic() < until:
            try:
                if done % RUNS_PER_PAGE == 0:
                    self.name = new_id()
                    for page in ("", "config"):
                        self._timed("the page", lambda page=page: self._http.get(page).raise_for_status())
                done += 1
                self._once(random.choice(problems))
            except Exception as error:
                self._errors.append(f"{type(error).__name__}: {error}"[:200])

    def _once(self, problem: str) -> None:
        began = time.monotonic()
        run = self._trace(problem)
        self._waits["a run"].append(time.monotonic() - began)
        for _ in range(STEPS):
            self._ask("lr-viewer.step", "a step's distributions", [run, random.randrange(5)])
        alpha, beta = random.choice((0.1, 0.2, 0.3)), random.choice((0.2, 0.4, 0.8))
        self._ask("lr-viewer.export", "an export", [run, "json", alpha, beta])
        self._ask("lr-top.header_status", "the header's status", [None])
        self._ask("lr-jobs.look", "the Jobs tab", [20, None, {}])

    def _trace(self, problem: str) -> str:
        """As the page does it, in its session: a session of its own for each run would be another page each time."""
        data = ["bundled", "", "", problem, "Generate", "", TOKENS, 0, 0, "", "Expert", None]
        body = {"data": data, "fn_index": self._calls["trace"], "session_hash": self.name}
        self._http.post("gradio_api/queue/join", json=body).raise_for_status()
        run, heard = None, ""
        with self._http.stream("GET", f"gradio_api/queue/data?session_hash={self.name}") as said:
            for line in said.iter_lines():
                if not line.startswith("data: "):
                    continue
                message = json.loads(line[6:])
                if run is None and message["msg"] == "process_generating":  # what follows are differences to it
                    run = json.loads(message["output"]["data"][0].splitlines()[0]).get("run")
                heard += line
                if message["msg"] == "process_completed":
                    break
        if run is None or '\\"error\\"' in heard or '\\"end\\"' not in heard:
            raise RuntimeError(heard[-150:])
        return run

    def _timed(self, what: str, request: Callable[[], httpx.Response]) -> httpx.Response:
        began = time.monotonic()
        answer = request()
        self._waits[what].append(time.monotonic() - began)
        return answer

    def _ask(self, name: str, what: str, arguments: list) -> None:
        body = {"component_id": self._calls[name], "fn_name": name.partition(".")[2], "data": arguments}
        call = lambda: self._http.post("gradio_api/component_server", json=body | {"session_hash": self.name})  # noqa: E731
        answer = self._timed(what, call)
        if (found := answer.raise_for_status().json()).get("error"):
            raise RuntimeError(f"{name}: {found['error']}")


def start(workspace: Path) -> tuple[psutil.Popen, str]:
    """The app's process and its address, once it answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    env = os.environ | {"LIGHTREASONER_WORKSPACE": str(workspace), "LIGHTREASONER_MAX_WAITING": "64"}
    env |= {"HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    with open(workspace / "server.log", "w") as log:
        process = psutil.Popen(
            [sys.executable, "app.py", "--port", str(port)], cwd=ROOT, env=env, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}/"
    while True:
        try:
            httpx.get(f"{url}healthz", trust_env=False).raise_for_status()
            return process, url
        except httpx.HTTPError:
            if process.poll() is not None:
                raise SystemExit((workspace / "server.log").read_text()) from None
            time.sleep(0.2)


def train(workspace: Path) -> tuple[Scheduler, str]:
    """A fine-tuning job that goes on for longer than this; the server runs it."""
    settings = Settings(workspace=workspace)
    verb = [sys.executable, "-m", "lightreasoner"]
    sample = ["sample", "--problems", "bundled-train", "--limit", "200", "--run-dir", str(settings.runs / new_id())]
    env = os.environ | {"LIGHTREASONER_WORKSPACE": str(workspace)}
    subprocess.run([*verb, *sample], cwd=ROOT, env=env, check=True, capture_output=True)
    scheduler = Scheduler(JobStore(settings.jobs / "jobs.sqlite"), {"local": LocalBackend()}, settings)
    argv = ["finetune", "--dataset", sample[-1], "--max-steps", "1000000"]
    return scheduler, scheduler.submit("finetune", argv, "Trains meanwhile", settings.runs / new_id()).id


def server_calls(url: str) -> dict[str, int]:
    """Element's id and function → the component that has it; "trace" → the event."""
    config = httpx.get(f"{url}config", trust_env=False).json()
    found = {"trace": next(event["id"] for event in config["dependencies"] if event["api_name"] == "trace")}
    for component in config["components"]:
        for function in component["props"].get("server_fns") or component.get("server_fns") or ():
            found[f"{component['props'].get('elem_id')}.{function}"] = component["id"]
    return found


def open_pages(count: int) -> None:
    """Print the server's memory while pages are opened and left."""
    with tempfile.TemporaryDirectory() as place:
        server, url = start(Path(place))
        calls, http = server_calls(url), httpx.Client(base_url=url, timeout=300, trust_env=False)
        time.sleep(10)  # the bundled pair is loaded meanwhile
        for n in range(count + 1):
            body = {"component_id": calls["lr-top.header_status"], "fn_name": "header_status", "data": [None]}
            http.post("gradio_api/component_server", json=body | {"session_hash": new_id()}).raise_for_status()
            if n % max(1, count // 6) == 0:
                print(f"{n:,} pages: {server.memory_info().rss / 1e6:,.0f} MB", flush=True)
        server.terminate()
        server.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--no-job", action="store_true", help="nothing trains meanwhile")
    parser.add_argument("--pages", type=int, help="only open so many pages")
    options = parser.parse_args()
    if options.pages:
        return open_pages(options.pages)
    problems = [problem.question for problem in load_problems("bundled-test").problems[:100]]
    waits, errors, memory = defaultdict(list), [], []
    with tempfile.TemporaryDirectory() as place:
        workspace = Path(place)
        server, url = start(workspace)
        scheduler, job = (None, None) if options.no_job else train(workspace)
        calls = server_calls(url)
        Session(url, calls, defaultdict(list), errors).live(time.monotonic() + 1, problems)  # warm: the pair is loaded
        began = time.monotonic()
        until = began + 60 * options.minutes
        sessions = [Session(url, calls, waits, errors) for _ in range(options.sessions)]
        threads = [threading.Thread(target=s.live, args=(until, problems), daemon=True) for s in sessions]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            memory.append(server.memory_info().rss / 1e6)
            time.sleep(2)
        seconds = time.monotonic() - began
        if job:
            done = scheduler.store.get(job)
            print(f"The job meanwhile: {done.state}")
            scheduler.cancel(job)
            while scheduler.store.get(job).state not in ("cancelled", "failed", "succeeded"):
                scheduler.tick(start=False)
                time.sleep(0.2)
        server.terminate()
        server.wait(30)
        tracebacks = (workspace / "server.log").read_text().count("Traceback")
    runs = len(waits["a run"])
    print(f"{options.sessions} sessions for {seconds:.0f} s: {runs:,} runs, {runs / seconds:.2f} per second")
    print(f"  the runs of {runs / RUNS_PER_HOUR:.0f} visitors in an hour")
    for what, times in waits.items():
        times = sorted(times)
        high = times[min(len(times) - 1, int(0.99 * len(times)))]
        print(f"  {what}: {len(times):,} times, median {statistics.median(times):.3f} s, 99 % within {high:.3f} s")
    tenth = max(1, len(memory) // 10)
    early, late = statistics.mean(memory[tenth : 2 * tenth + 1]), statistics.mean(memory[-tenth:])
    print(f"server memory: {early:,.0f} MB early, {late:,.0f} MB at the end, {max(memory):,.0f} MB at most")
    print(f"{len(errors)} errors, {tracebacks} tracebacks in the server's log")
    for error in sorted(set(errors))[:5]:
        print(f"  {error}")
    raise SystemExit(1 if errors or tracebacks else None)


if __name__ == "__main__":
    main()
