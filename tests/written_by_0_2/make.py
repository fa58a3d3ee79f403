"""How everything in this folder was made, with version 0.2.0 and with nothing else; see README.md.

python -m tests.written_by_0_2.make, in a checkout of 0.2.0, with an empty and writable /home/user/studio
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

HOME = Path("/home/user/studio")  # the workspace, by the name that the files know it by
HERE = Path(__file__).resolve().parent
BOOT = "00000000-0000-4000-8000-000000000000"
WRITER = "hf_writerwriterwriter"
QUESTIONS = (
    "Tom has 3 apples and buys 4. How many?",
    "She sold 12 of the 20 cakes. How many are left?",
    "Is 91 prime?",
)
TEXT = "Tom has 3 + 4 = 7 apples.\nThe answer is 7."
#: Runs the command line, and dies of a kill -9 at its tenth safe point: after the tenth update of a fine-tuning run.
KILLED = """
import os, signal, sys
from lightreasoner.jobs import work
usual, times = work.Work.safe_point, []
def safe_point(self):
    times.append(1)
    if len(times) == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    usual(self)
work.Work.safe_point = safe_point
from lightreasoner.cli import main
sys.exit(main(sys.argv[1:]))
"""


def main() -> None:
    os.environ |= {
        "LIGHTREASONER_WORKSPACE": str(HOME),
        "LIGHTREASONER_DEVICE": "cpu",
        "LIGHTREASONER_DTYPE": "float32",
        "HF_HOME": "/nonexistent",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1",
    }
    from tests.hub_server import Account, Hub

    with Hub() as hub:
        hub.accounts[WRITER] = Account("me")
        os.environ["HF_ENDPOINT"] = hub.url  # before huggingface_hub is imported
        ids = write(hub)
    keep(ids)
    expect(ids)


def write(hub) -> dict[str, str]:
    """Everything, as the page and the command line do it; the ids by what they name."""
    from lightreasoner import __version__
    from lightreasoner.cli import main as command
    from lightreasoner.files import new_id
    from lightreasoner.jobs.local import LocalBackend
    from lightreasoner.jobs.scheduler import Scheduler
    from lightreasoner.marks import set_mark
    from lightreasoner.runs import run_folder
    from lightreasoner.settings import from_environment
    from lightreasoner.tracing import TraceRequest
    from lightreasoner.trajectories import rows
    from tests.tiny import save_tiny
    from ui.datasets import Datasets
    from ui.evaluate_flips import Flips
    from ui.evaluate_request import EvaluateRequest
    from ui.evaluations import Evaluations
    from ui.finetune_request import CONFIG, defaults, read_form
    from ui.finetune_runs import Tunings
    from ui.preflight_card import start_preflight
    from ui.push_calls import start_pull, start_push
    from ui.sample_request import SampleRequest, kept_problems
    from ui.studio import Studio, branch_request
    from ui.tuned_form import asked_lens

    assert __version__ == "0.2.0" and not any(HOME.iterdir())
    settings, ids = from_environment(), {}
    bundled = ("bundled", "lightreasoner-expert-4m", "lightreasoner-amateur-1m")
    own = (None, str(save_tiny(HOME / "models/expert", 1)), str(save_tiny(HOME / "models/amateur", 2, hidden=16)))
    (HOME / "mine.jsonl").write_text(
        "".join(json.dumps({"question": q, "answer": str(7 + n)}) + "\n" for n, q in enumerate(QUESTIONS))
    )
    studio = Studio(settings)
    jobs = studio.jobs.start()
    datasets, tunings, evaluations = (kind(settings, jobs) for kind in (Datasets, Tunings, Evaluations))

    def ended(job, state="succeeded") -> str:
        while (now := jobs.store.get(job.id)).state in ("queued", "running", "stopping"):
            time.sleep(0.1)
        log = (jobs.store.folder(job.id) / "output.log").read_text() if now.started else ""
        assert now.state == state, (now, log)
        return job.id

    def submit(name: str, verb: str, argv: list[str], title: str):
        ids[name] = new_id()
        job = jobs.submit(verb, argv, title, run_folder(settings, ids[name]))
        ids[f"job of {name}"] = job.id
        return job

    def sample(name: str, asked: SampleRequest):
        return submit(name, "sample", asked.argv(kept_problems(settings, asked.problems)), asked.title)

    def form(dataset: str, method="lightreasoner", alpha=0.2, beta=0.4, selector="kl", **changed):
        values = defaults(None) | {"rank": 1, "lora_alpha": 2, "learning_rate": 0.01, "held_out": 0.25} | changed
        return read_form(datasets, ids[dataset], method, alpha, beta, selector, None, *(values[n] for n in CONFIG))

    def finetune(name: str, dataset: str, **asked):
        request = form(dataset, **asked)
        return submit(name, "finetune", request.argv(str((settings.runs / ids[dataset]).absolute())), request.title)

    # datasets: with the bundled pair, and with two models and a file of problems of one's own
    ended(sample("dataset", SampleRequest(bundled, "bundled-train", "Bundled, train", 6, 48, batch_size=2)))
    mine = SampleRequest(own, str(HOME / "mine.jsonl"), "mine.jsonl", 3, 12, 1.0, 2, 5, None, True)
    ended(sample("own dataset", mine))
    dataset, own_dataset = (settings.runs / ids[name] for name in ("dataset", "own dataset"))
    row = max(rows(dataset), key=lambda row: sum(0.05 < kl <= 0.4 for kl in row["kl"]))
    middling = [step for step, kl in enumerate(row["kl"]) if 0.05 < kl <= 0.4]  # not selected, details stored
    selected = [step for step, kl in enumerate(row["kl"]) if kl > 0.4]
    for step, mark in ((middling[0], "keep"), (selected[0], "drop"), (selected[1], "pin")):
        set_mark(dataset, (row["problem_id"], 0, step), mark)
    set_mark(own_dataset, (next(rows(own_dataset))["problem_id"], 1, 0), "drop")
    ids["preflight"] = start_preflight(studio, bundled, "bundled-train", None, 48, 500)
    ended(next(job for job in jobs.store.jobs() if job.verb == "preflight"))

    # fine-tuning runs, one of them merged
    usual = {"max_steps": 12, "save_every": 4, "evaluate_every": 4}
    ended(finetune("tuned", "dataset", **usual))
    ended(finetune("own tuned", "own dataset", method="all-steps", schedule="cosine", **usual))
    merge = tunings.merge(ids["own tuned"])
    ids["job of merge"] = ended(merge)

    # an evaluation, and both models on one of its flips
    adapter = settings.runs / ids["tuned"] / "adapter"
    asked = EvaluateRequest(bundled[1], (adapter.absolute(),), True, "bundled-test", "Bundled, test", 24, 64, 12)
    ended(submit("evaluation", "evaluate", asked.argv("bundled-test"), asked.title))
    flips = Flips(studio, evaluations)
    found = [flips.listed(ids["evaluation"], 1, side, 0)["rows"] for side in ("gained", "lost")]
    print("flips", list(map(len, found)))
    ids["flip"] = next(row["problem"] for rows in found for row in rows)

    # on a Hub
    for run, repo in (("own dataset", "me/data"), ("tuned", "me/adapter")):
        ended(start_push(studio, ids[run], repo, True, WRITER, "cc-by-4.0"))
    ended(start_push(studio, ids["own tuned"], "me/merged", True, WRITER, "mit", merged=merge.run_dir))
    pull = start_pull(studio, "me/data", WRITER)
    ids["pulled"], ids["job of pulled"] = pull.run_dir.name, ended(pull)
    for (kind, name), repo in hub.repos.items():
        for file, content in repo.files.items():
            path = HOME / "hub" / kind / name.partition("/")[2] / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    # files to take along, and one of them as a dataset again
    exports = HOME / "exports"
    exports.mkdir()
    words = ["export", "--run-dir", str(dataset), "--format"]
    assert command([*words, "released", "--out", str(exports / "released.jsonl")]) == 0
    assert command([*words, "parquet", "--out", str(exports / "samples.parquet"), "--beta", "0.1"]) == 0
    ids["imported"] = new_id()
    imported = settings.runs / ids["imported"]
    assert command(["import", str(exports / "released.jsonl"), "--run-dir", str(imported)]) == 0
    told = ["--problem", QUESTIONS[0], "--max-new-tokens", "12", "--json", str(exports / "trace.json")]
    assert command(["trace", *told]) == 0

    # traces
    def trace(name: str, request: TraceRequest, **more) -> dict:
        live = studio.start(request, bundled, **more)
        live.done.wait()
        assert not live.error, live.error
        studio.lives.pop(live.trace.id)
        ids[name] = live.trace.id
        return studio.record(live.trace.id)

    written = trace("trace", TraceRequest(QUESTIONS[0], max_new_tokens=16))
    step = 5
    other = next(i for i in written["steps"][step]["candidates"]["ids"] if i != written["steps"][step]["token_id"])
    parent = {"id": written["id"], "step": step}
    trace("branch", branch_request(written, step, other), parent=parent)
    trace("scored", TraceRequest(QUESTIONS[0], response=TEXT), problem_id="train-0")
    tuned = f"{bundled[1]}::{adapter.absolute()}"
    trace("lens", TraceRequest(QUESTIONS[1], max_new_tokens=8), lens=asked_lens(studio, tuned, "Expert", bundled[1]))
    ids["flip's trace"] = flips.score(ids["evaluation"], 1, ids["flip"], "after")
    while "record" not in flips.scored(ids["flip's trace"]):
        time.sleep(0.1)

    # jobs that did not go well, one that was killed with its server, and one that waits
    gone = SampleRequest((None, "./not-there", own[2]), "bundled-train", "Bundled, train", 5)
    ids["failed"] = ended(sample("nothing", gone), "failed")
    endless = submit("endless", "sample", ["sample", "--problems", "bundled-train"], "Sample everything")
    while not any((endless.run_dir / "trajectories").glob("*.parquet")):
        time.sleep(0.1)
    jobs.keep(endless.id)
    ids["kept"] = ended(endless)
    jobs.close()  # nothing is started from here on
    waiting = sample("never", mine)
    jobs.cancel(waiting.id)
    ids["cancelled"] = ended(waiting, "cancelled")
    again = jobs.retry(waiting.id)
    jobs.cancel(again.id)
    ids["retried"] = ended(again, "cancelled")

    killing = Scheduler(jobs.store, {"local": LocalBackend((sys.executable, "-c", KILLED))}, settings)
    jobs = killing
    job = finetune("interrupted", "own dataset", method="all-steps", schedule="cosine", **usual)
    ids["queued"] = sample("waiting", mine).id
    killing.tick()
    killing.backends["local"]._children[f"{job.id}/1"].wait()
    assert jobs.store.get(job.id).state == "running"
    return ids


def keep(ids: dict[str, str]) -> None:
    """What was written, here, but for what is large and tells nothing, and for what would tell of the machine."""
    from lightreasoner.jobs.processes import _boot

    shutil.rmtree(HERE / "studio", ignore_errors=True)
    for path in HOME.glob("jobs/servers"):
        shutil.rmtree(path)
    for path in [
        *HOME.rglob("*.lock"),
        *HOME.rglob(".accelerator*"),
        *HOME.rglob("training_args.bin"),
        *HOME.rglob(".gitattributes"),
    ]:
        path.unlink(missing_ok=True)
    shutil.rmtree(HOME / "runs" / ids["endless"])  # a thousand problems
    shutil.rmtree(HOME / "runs" / ids["tuned"] / "checkpoints")  # those of the interrupted run are kept
    shutil.rmtree(HOME / "runs" / ids["own tuned"] / "checkpoints")
    for path in HOME.rglob("*"):
        if path.is_file() and _boot().encode() in (content := path.read_bytes()):
            path.write_bytes(content.replace(_boot().encode(), BOOT.encode()))  # as long, so SQLite's pages stay whole
    for path in HOME.rglob("output.log"):  # warnings name the place of the packages
        path.write_text(path.read_text().replace(sys.prefix, "/home/user/lightreasoner/.venv"))
    shutil.copytree(HOME, HERE / "studio")


def expect(ids: dict[str, str]) -> None:
    """expected.json: what this version reads in it all."""
    from tests import test_written_by_0_2 as test

    with tempfile.TemporaryDirectory() as place:
        expected = test.look(test.arrive(Path(place)), ids)
    text = json.dumps(expected, indent=1, ensure_ascii=False) + "\n"
    text = re.sub(r"\[\s+([^\[\]{}]+?)\s+\]", lambda m: "[" + re.sub(r",\n\s+", ", ", m[1]) + "]", text)
    assert json.loads(text) == expected
    (HERE / "expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
