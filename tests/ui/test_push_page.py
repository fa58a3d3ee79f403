"""Pushing from the page: the user's token reaches the job's process and the Hub and nothing else, the server's token
neither. The scheduler starts the real command line, which talks to a Hub on a local port."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import gradio as gr
import psutil
import pytest

from lightreasoner.jobs.store import FINISHED
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import read_run, run_folder
from tests.publishing.test_push import SERVERS, STRANGER, WRITER, sums
from tests.support.hub_server import Account, Hub
from tests.support.tiny_dataset import make_dataset
from ui.components.push_calls import push_calls
from ui.studio import Studio


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub, and a server whose own token, in the environment and in a file, could write to it."""
    with Hub() as hub:
        hub.accounts |= {WRITER: Account("me"), SERVERS: Account("me"), STRANGER: Account("stranger")}
        home = tmp_path / "home"
        home.mkdir()
        (home / "token").write_text(SERVERS)
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_TOKEN": SERVERS, "HF_HUB_DISABLE_XET": "1"}
        for name, value in (env | {"HUGGING_FACE_HUB_TOKEN": SERVERS, "NO_PROXY": "127.0.0.1,localhost"}).items():
            monkeypatch.setenv(name, value)
        for name in ("HF_TOKEN_PATH", "HF_HUB_OFFLINE", "SPACE_ID"):
            monkeypatch.delenv(name, raising=False)
        yield hub


class Bench:
    def __init__(self, workspace: Path):
        self.studio = Studio(Settings(workspace=workspace, device="cpu"))
        self.jobs = self.studio.jobs
        self.folder = run_folder(self.studio.settings, new_id())
        make_dataset(self.folder, problems=4)
        self.calls = {call.__name__: call for call in push_calls(self.studio)}
        self.argvs: list[str] = []

    def push(self, token: str | None = WRITER, **form) -> dict:
        form = {"repo": "me/data", "private": True, "license": "mit", "token": token} | form
        return self.calls["push"]([self.folder.name, "dataset", form])

    def ended(self, answer: dict):
        """The finished job."""
        assert "job" in answer, answer
        until = time.monotonic() + 100
        while True:
            self.jobs.tick()
            job = self.jobs.store.get(answer["job"])
            if job.pid:
                with suppress(psutil.Error):
                    self.argvs.append(" ".join(psutil.Process(job.pid).cmdline()))
            if job.state in FINISHED:
                return job
            assert time.monotonic() < until, "the job goes on for ever"
            time.sleep(0.05)


@pytest.fixture
def bench(hub, tmp_path):
    return Bench(tmp_path / "workspace")


def holding(folder: Path, *secrets: str) -> list[Path]:
    """The files that contain one of the texts."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5, "there is something to look through"
    return [path for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)]


def test_a_visitors_token_goes_to_the_hub_and_nowhere_else(hub, bench, tmp_path, caplog, capfd):
    job = bench.ended(bench.push())
    assert job.state == "succeeded", job.message
    assert hub.repos["dataset", "me/data"].private
    told = bench.calls["pushed"]([bench.folder.name])["push"]
    assert (
        told["address"] == f"{hub.url}/datasets/me/data" and told["numbers"]["files"] == told["numbers"]["files_in_all"]
    )

    job = bench.ended(bench.calls["pull"](["me/data", WRITER]))
    assert job.state == "succeeded", job.message
    assert sums(job.run_dir) == sums(bench.folder) and read_run(job.run_dir)["kind"] == "dataset"
    assert hub.tokens() == {WRITER}, "the server's own token was never sent"

    assert not holding(tmp_path / "workspace", WRITER, SERVERS)
    said = capfd.readouterr()
    assert bench.argvs and not any(
        token in text for token in (WRITER, SERVERS) for text in (*bench.argvs, caplog.text, *said)
    )
    assert not bench.jobs._tokens, "and it is forgotten"


def test_the_servers_own_token_is_never_used(hub, bench):
    assert "your own access token" in bench.push(token=None)["error"]
    assert "your own access token" in bench.push(token="  ")["error"]
    mocked = gr.OAuthToken(SERVERS, "", 2**40)  # what Gradio plays at off Spaces
    form = {"repo": "me/data", "private": True}
    assert "your own access token" in bench.calls["push"]([bench.folder.name, "dataset", form], mocked)["error"]

    job = bench.ended(bench.push(token="hf_nobodysnobodys"))
    assert job.state == "failed" and "does not know this access token" in job.message
    retried = bench.jobs.retry(job.id)
    assert "no access token" in bench.ended({"job": retried.id}).message, "a token is not kept for a retry"
    argv = ["push", str(bench.folder), "--repo", "me/data"]
    bare = bench.jobs.submit("push", argv, "Push", run_folder(bench.studio.settings, new_id()))
    assert "no access token" in bench.ended({"job": bare.id}).message
    job = bench.ended(bench.calls["pull"](["me/private", ""]))
    assert job.state == "failed" and "private and needs a token" in job.message
    assert SERVERS not in hub.tokens() and not hub.repos


def test_a_user_signed_in_on_a_space_needs_no_token_in_the_form(hub, bench, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "lab/studio")
    monkeypatch.setenv("OAUTH_CLIENT_ID", "x")
    form = {"repo": "stranger/data", "private": True}
    answer = bench.calls["push"]([bench.folder.name, "dataset", form], gr.OAuthToken(STRANGER, "", 2**40))
    assert bench.ended(answer).state == "succeeded"
    assert hub.tokens() == {STRANGER} and ("dataset", "stranger/data") in hub.repos


def test_a_failed_push_resumes_when_started_again(hub, bench):
    fault = hub.fail("POST .*/commit/", 0, 1)
    job = bench.ended(bench.push())
    assert job.state == "failed" and "it resumes" in job.message
    hub.faults.remove(fault)
    puts = hub.asked("PUT /lfs/")
    assert bench.ended(bench.push()).state == "succeeded"
    assert puts and hub.asked("PUT /lfs/") == puts, "nothing is sent twice"


def test_an_existing_repository_is_only_replaced_on_request(hub, bench, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.csv").write_text("a\n")
    hub.add("me/data", tmp_path / "other", "dataset", private=True)
    job = bench.ended(bench.push())
    told = bench.calls["pushed"]([bench.folder.name])["push"]
    assert job.state == "failed" and told["existing"], "the page offers to replace it"
    assert bench.ended(bench.push(replace=True)).state == "succeeded"
    assert "a.csv" not in hub.repos["dataset", "me/data"].files


@pytest.mark.parametrize(
    "form",
    [
        {"repo": None},
        {"repo": "../../etc"},
        {"repo": "me/" + "x" * 200},
        {"repo": "--public/x"},
        {"repo": ["me/data"]},
        {"token": "a b"},
        {"token": ["x"]},
        {"token": "hf_\nX-Evil: 1"},
        {"license": "--replace"},
        {"license": 3},
        {"private": "no"},
        {"replace": 1},
    ],
)
def test_invalid_values_start_nothing(hub, bench, form):
    answer = bench.push(**form)
    assert answer["error"].endswith(".") and "\n" not in answer["error"]
    assert not bench.jobs.store.jobs() and not hub.seen


def test_an_invalid_form_starts_nothing(bench):
    call = bench.calls["push"]
    for arguments in (
        None,
        [],
        [bench.folder.name, "dataset", None],
        [bench.folder.name, "x", {}],
        ["../x", "dataset", {}],
    ):
        assert call(arguments)["error"]
    assert "not a run folder" in call([new_id(), "dataset", {"repo": "me/data", "token": WRITER}])["error"]
    assert bench.calls["pushed"](["../../x"])["error"] and bench.calls["pulled"]([[]])["error"]
    assert bench.calls["pushed"]([bench.folder.name]) == {"push": None}
