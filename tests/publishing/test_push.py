"""Publishing and fetching as a person does it: the command line in a process of its own, which is a fork that needs no
imports, huggingface_hub inside it, a Hub on a local port. Nothing of ours is patched."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard

from lightreasoner.datasets.amateurs import amateur_datasets, further_folder
from lightreasoner.datasets.annotations import load_annotations, set_annotation
from lightreasoner.datasets.card import dataset_card
from lightreasoner.datasets.explorer import Explorer
from lightreasoner.datasets.select_steps import training_samples
from lightreasoner.datasets.trajectories import shards
from lightreasoner.errors import UserError
from lightreasoner.hub.errors import hub_errors
from lightreasoner.hub.redaction import redact
from lightreasoner.models.loading import load_model
from lightreasoner.publishing.contents import MANIFEST
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import RECORD, begin_run, read_run
from tests.support import warm_app
from tests.support.browser import free_port
from tests.support.hub_server import Account, Hub
from tests.support.tiny_dataset import make_dataset
from tests.support.tiny_models import logits_of, save_tiny, save_tiny_adapter, tiny_model
from tests.support.tiny_tuning import make_run

WRITER, READER, STRANGER = "hf_writerwriterwriter", "hf_readerreaderreader", "hf_strangerstranger"
SERVERS = "hf_theserversowntoken"


@pytest.fixture
def hub():
    with Hub() as hub:
        hub.accounts[WRITER] = Account("me", orgs=("lab",))
        hub.accounts[READER] = Account("me", role="read")
        hub.accounts[STRANGER] = Account("stranger")
        hub.accounts[SERVERS] = Account("me")
        yield hub


@pytest.fixture
def dataset(tmp_path) -> Path:
    """A dataset with marks and a tokenizer, whose run.json holds places on this machine and a secret."""
    folder = tmp_path / "data"
    make_dataset(folder, problems=10, per_shard=2, tokens=True)
    rename = read_run(folder)
    rename["config"] |= {"expert": str(tmp_path / "my models" / "expert")}
    rename["about"] |= {
        "fingerprints": {"expert": "e" * 16, "amateur": "a" * 16},
        "problems": str(tmp_path / "problems.jsonl"),
        "title": "Sample problems.jsonl",
        "note": f"read {tmp_path}/problems.jsonl with hf_abcdefghijklmnopqrst",
    }
    (folder / RECORD).write_text(json.dumps(rename))
    shutil.copytree(
        tmp_path / "expert", folder / "tokenizer", ignore=shutil.ignore_patterns("*.safetensors", "config.json")
    )
    set_annotation(folder, ("p1", 0, 3), "keep")
    return folder


def run(
    hub: Hub | None,
    *words: object,
    token: str | None = WRITER,
    home: Path | None = None,
    module: str = "lightreasoner",
    **env: str,
):
    """The command line; its exit status and all that it said."""
    base = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "LIGHTREASONER_"))}
    base |= {
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1",
    }
    base |= {"HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:9", "HF_HOME": str(home or "/nonexistent")}
    base |= ({"HF_TOKEN": token} if token else {}) | env
    done = warm_app.command(base, *map(str, words), module=module)
    return done.returncode, done.stdout + done.stderr


def refused(answer: tuple[int, str], expected: str) -> str:
    code, said = answer
    last = said.strip().splitlines()[-1]
    assert code == 2 and "Traceback" not in said, said
    assert re.search(expected, last) and last.endswith("."), last
    return last


def sums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in shards(folder)}


def test_hostile_texts_stay_texts_in_a_card(dataset):
    run = read_run(dataset)
    run["config"] |= {"expert": "x`y\n\n# {{ 7 * 7 }}", "note": "a|b\n<script>"}
    title = 'A: "b" <i>\n---\nlicense: other'
    card = DatasetCard(text := dataset_card(dataset, run, title, "no"))
    assert card.data.license == "no" and card.data.pretty_name == title
    assert "- expert: `xy # {{ 7 * 7 }}`" in text and "| note | a\\|b &lt;script> |\n" in text
    assert '\n# A: "b" &lt;i> --- license: other\n' in text


def add_amateurs(dataset: Path, read: str, unread: str) -> str:
    """Two further amateurs, of which one has read the responses; the folder of its measures inside the dataset's."""
    record = read_run(dataset)
    for ref in (read, unread):
        begin_run(further_folder(dataset, ref), "dataset", record["config"] | {"amateur": ref}, record["about"])
    shutil.copytree(dataset / "trajectories", further_folder(dataset, read) / "trajectories")
    return str(further_folder(dataset, read).relative_to(dataset))


def test_what_is_pushed_comes_back_bit_for_bit(hub, dataset, tmp_path):
    """Further amateurs, too: of a dataset with several a push sent the first one's measures only, without a word."""
    place = add_amateurs(dataset, str(tmp_path / "secret place" / "small"), "x/unread")
    home = tmp_path / "home"
    code, said = run(hub, "push", dataset, "--repo", "me/data", "--license", "mit", home=home)
    assert code == 0, said
    assert re.search(r"\d+ of \d+ files, [\d.]+ of [\d.]+ MB", said), "it says how far it is"
    repo = hub.repos["dataset", "me/data"]
    assert repo.private, "private unless --public is given"
    assert sorted(repo.files) == sorted(
        [".gitattributes", "README.md", MANIFEST, "marks.json", RECORD]
        + [f"trajectories/{path.name}" for path in shards(dataset)]
        + [f"tokenizer/{path.name}" for path in (dataset / "tokenizer").iterdir()]
        + [f"{place}/{RECORD}", *(f"{place}/trajectories/{path.name}" for path in shards(dataset / place))]
    )
    told = b"".join(content for name, content in repo.files.items() if not name.endswith(".parquet")).decode()
    assert str(tmp_path) not in told and "hf_abc" not in told and WRITER not in told
    assert "secret place" not in told and "a further amateur: `./small`" in told
    card = repo.files["README.md"].decode()
    assert card.startswith("---\nlicense: mit\n") and "e" * 16 in card and "| 0.2 – 0.4 |" in card
    assert DatasetCard(card).data.license == "mit" and DatasetCard(card).data.configs[0]["data_files"]

    back = tmp_path / "back"
    code, said = run(hub, "pull", "me/data", "--run-dir", back, home=home)
    assert code == 0, said
    assert sums(back) == sums(dataset) and len(sums(back)) == 5
    before, after = read_run(dataset), read_run(back)
    assert after["about"]["fingerprints"] == before["about"]["fingerprints"] and after["created"] == before["created"]
    assert after["pulled"] == {"repo": "me/data", "revision": repo.sha}
    assert {k: v for k, v in after.items() if k != "pulled"} == redact(before)
    assert load_annotations(back) == load_annotations(dataset)
    assert list(training_samples(back)) == list(training_samples(dataset)), "so it trains as the original does"
    assert [each.amateur for each in amateur_datasets(back)] == [before["config"]["amateur"], "./small"]
    assert sums(back / place) == sums(dataset / place)
    here, there = Explorer(dataset), Explorer(back)
    assert there.histogram((0, 0.1, 1, 20)) == here.histogram((0, 0.1, 1, 20))
    assert not list(back.glob(".pulled-*"))

    assert run(hub, "push", dataset, "--repo", "me/data", "--license", "mit", home=home)[0] == 0, "again is no mistake"
    assert hub.asked("POST .*/commit/") == 2, "and sends nothing"
    old = list(repo.commits)[1]
    refused(run(hub, "pull", "me/data", "--revision", old, "--run-dir", tmp_path / "part", home=home), "is incomplete")
    assert not (tmp_path / "part").exists()
    refused(run(hub, "pull", "me/data", "--run-dir", back, home=home), "exists already")
    refused(
        run(hub, "pull", "me/data", "--run-dir", tmp_path / "x", token=None, home=home), "private and needs a token"
    )
    refused(run(hub, "pull", "me/data", "--run-dir", tmp_path / "x", token=STRANGER, home=home), "knows no dataset")
    assert not (tmp_path / "x").exists()


def test_load_dataset_reads_it(hub, dataset, tmp_path):
    assert run(hub, "push", dataset, "--repo", "me/data", "--public", home=tmp_path / "home")[0] == 0
    script = "import datasets; d = datasets.load_dataset('me/data', split='train'); print(len(d), d[3]['problem_id'])"
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "other"), "HF_HUB_DISABLE_XET": "1"}
    env = {name: value for name, value in env.items() if name != "HF_HUB_OFFLINE"} | {"NO_PROXY": "127.0.0.1,localhost"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["10", "p3"], done.stderr[-2000:]


@pytest.mark.parametrize(
    ("token", "repo", "expected"),
    [
        (None, "me/data", "No access token was found.*hf auth login"),
        ("hf_nobodysnobodys", "me/data", "does not know this access token"),
        (READER, "me/data", "is read-only"),
        (WRITER, "stranger/data", "belongs to another account.*me or lab"),
        (WRITER, "data", "is not a repository; write OWNER/NAME"),
        (WRITER, "me/../../etc", "is not a repository"),
        (WRITER, "me/<script>alert(1)</script>", "is not a repository"),
        (WRITER, "me/a..b", "is not a repository"),
        (WRITER, "me/" + "x" * 97, "is not a repository"),
        (WRITER, "me/\u202egpj", "is not a repository"),
        ("hf_a b\nc", "me/data", "is no access token"),
    ],
)
def test_who_may_not_is_told_why(hub, dataset, token, repo, expected):
    said = refused(run(hub, "push", dataset, "--repo", repo, token=token), expected)
    assert not hub.repos and (not token or token not in said)


def test_a_token_without_the_right_to_write_there(hub, dataset):
    hub.accounts["hf_finegrainedtoken"] = Account("me", role="fineGrained")
    hub.fail("POST /api/repos/create", 403)
    refused(run(hub, "push", dataset, "--repo", "me/data", token="hf_finegrainedtoken"), "does not let this token.*403")


def test_an_existing_repository_is_asked_about(hub, dataset, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "data.csv").write_text("a,b\n")
    (other / "README.md").write_text("# Mine\n")
    hub.add("me/data", other, "dataset", private=True)
    words = ("push", dataset, "--repo", "me/data")
    said = refused(run(hub, *words), "exists already and holds 2 other files")
    assert "README.md" in said and "data.csv" in said and "--replace" in said
    assert set(hub.repos["dataset", "me/data"].files) == {"data.csv", "README.md"}
    refused(run(hub, *words, "--public", "--replace"), "is private, not public")
    hub.repos["dataset", "me/data"].private = False
    refused(run(hub, *words, "--replace"), "is public, not private")
    hub.repos["dataset", "me/data"].private = True
    assert run(hub, *words, "--replace")[0] == 0
    assert "data.csv" not in hub.repos["dataset", "me/data"].files
    back = tmp_path / "back"
    assert run(hub, "pull", "me/data", "--run-dir", back)[0] == 0
    assert sums(back) == sums(dataset)
    hub.add("me/empty", None, "dataset", private=True)
    assert run(hub, "push", dataset, "--repo", "me/empty")[0] == 0, "one made by hand, with nothing in it, is taken"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (("PUT /lfs/", 403, 3), r"403"),
        (("POST .*/commit/", 0, 1), "cannot be reached.*same command again"),
        (("POST .*/commit/", 429, 1), "rate limit. Try again in 30 seconds"),
        (("POST .*/commit/", 507, 1), "no room"),
    ],
)
def test_a_push_that_was_cut_off_goes_on(hub, dataset, tmp_path, fault, expected):
    what, code, spare = fault
    trouble = hub.fail(what, code, spare, **({"Retry-After": "30"} if code == 429 else {}))
    refused(run(hub, "push", dataset, "--repo", "me/data"), expected)
    refused(run(hub, "pull", "me/data", "--run-dir", tmp_path / "early"), "is incomplete|lightreasoner.json is missing")
    sent = len(hub.objects)
    assert sent > 0, "the failure came midway"
    hub.faults.remove(trouble)
    puts = hub.asked("PUT /lfs/")
    code, said = run(hub, "push", dataset, "--repo", "me/data")
    assert code == 0, said
    assert hub.asked("PUT /lfs/") - puts == 5 - sent, "what was there is not sent again"
    assert run(hub, "pull", "me/data", "--run-dir", tmp_path / "back")[0] == 0
    assert sums(tmp_path / "back") == sums(dataset)


def test_nobody_is_there(dataset, tmp_path):
    refused(run(None, "push", dataset, "--repo", "me/data"), "Hugging Face Hub cannot be reached")
    refused(run(None, "pull", "me/data", "--run-dir", tmp_path / "x"), "Hugging Face Hub cannot be reached")
    refused(run(None, "push", dataset, "--repo", "me/data", HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE is set")
    refused(run(None, "pull", "me/data", "--run-dir", tmp_path / "x", HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE is set")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (FileNotFoundError(errno.ENOENT, "gone", "/home/me/runs/x/000001.parquet"), r"\./000001.parquet is gone"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (TimeoutError(), r"cannot be reached \(TimeoutError\)"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(error, expected):
    with pytest.raises(UserError, match=expected) as caught, hub_errors("me/data"):
        try:
            raise error
        except OSError as cause:
            raise RuntimeError("Error while uploading 'x' to the Hub.") from cause
    assert "/home/me" not in str(caught.value)


def test_a_disk_that_is_full_leaves_nothing(hub, dataset, tmp_path):
    """A limit on the size of files is what a full disk is to a writer."""
    assert run(hub, "push", dataset, "--repo", "me/data")[0] == 0
    small = "tests.support.small_files"
    answer = run(hub, 8000, "pull", "me/data", "--run-dir", tmp_path / "x", module=small)
    refused(answer, "cannot be written|could not be (read or )?written|disk is full")
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(not shutil.which("olah-cli"), reason="needs the package olah, a Hub on local git")
def test_another_hub_serves_what_was_pushed(hub, dataset, tmp_path):
    """olah has nothing of this project in it: what was pushed lies in a git repository, and is pulled from there."""
    assert run(hub, "push", dataset, "--repo", "me/data", "--public")[0] == 0
    place = tmp_path / "mirrors" / "datasets" / "me" / "data"
    for name, content in hub.repos["dataset", "me/data"].files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    for words in ("init -b main", "add -A", "commit -m x"):
        git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run([*git, *words.split()], cwd=place, check=True, capture_output=True)
    port = free_port()
    config = tmp_path / "olah.toml"
    config.write_text(
        f'[basic]\nhost = "127.0.0.1"\nport = {port}\nrepos-path = "{tmp_path}/cache"\n'
        f'mirrors-path = ["{tmp_path}/mirrors"]\n[accessibility]\noffline = true\n'
    )
    other = Hub()
    other.url = f"http://127.0.0.1:{port}"
    command = [shutil.which("olah-cli"), "-c", str(config)]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < until and server.poll() is None, "olah does not answer"
            time.sleep(0.2)
        code, said = run(other, "pull", "me/data", "--run-dir", tmp_path / "back", token=None)
        assert code == 0, said
        assert sums(tmp_path / "back") == sums(dataset)
    finally:
        server.terminate()
        server.wait(10)


def test_what_cannot_be_published(hub, dataset, tmp_path):
    refused(run(hub, "push", tmp_path / "nowhere", "--repo", "me/data"), "is not a run folder")
    begin_run(tmp_path / "empty", "dataset", {}, {})
    refused(run(hub, "push", tmp_path / "empty", "--repo", "me/data"), "has no steps yet")
    begin_run(tmp_path / "scores", "evaluation", {}, {})
    refused(run(hub, "push", tmp_path / "scores", "--repo", "me/data"), "kind evaluation")
    refused(run(hub, "push", dataset, "--repo", "me/data", "--license", "my own!"), "not a licence id of the Hub")
    refused(run(hub, "push", dataset, "--repo", "me/data", "--license", "gpl-99"), "refuses the card's first lines")
    assert not hub.objects, "the card is looked at before anything large is sent"


def test_hostile_repositories_are_not_pulled(hub, dataset, tmp_path):
    assert run(hub, "push", dataset, "--repo", "me/data")[0] == 0
    repo = hub.repos["dataset", "me/data"]
    good = dict(repo.files)
    manifest = json.loads(good[MANIFEST])

    def pulled(files: dict[str, bytes], expected: str) -> None:
        repo.commit(files)
        refused(run(hub, "pull", "me/data", "--run-dir", tmp_path / "x"), expected)
        assert not (tmp_path / "x").exists()

    def listing(**changes) -> bytes:
        files = {name: one for name, one in (manifest["files"] | changes).items() if one}
        return json.dumps(manifest | {"files": files}).encode()

    evil = b"print('hello')"
    entry = {"sha256": hashlib.sha256(evil).hexdigest(), "bytes": len(evil)}
    pulled(good | {MANIFEST: listing(**{"setup.py": entry}), "setup.py": evil}, "lists 'setup.py', which no dataset")
    pulled(good | {MANIFEST: listing(**{"../run.json": entry})}, "lists '../run.json'")
    shard = sorted(name for name in good if name.startswith("trajectories/"))[0]
    flipped = bytearray(good[shard])
    flipped[len(flipped) // 2] ^= 0xFF
    flipped = bytes(flipped)
    pulled(good | {shard: flipped}, "its SHA-256 differs")
    entry = {"sha256": hashlib.sha256(flipped).hexdigest(), "bytes": len(flipped)}
    pulled(good | {shard: flipped, MANIFEST: listing(**{shard: entry})}, "cannot be read as a dataset")
    record = json.loads(good[RECORD])
    record["config"]["expert"] = "/etc/passwd"
    text = json.dumps(record).encode()
    entry = {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}
    pulled(good | {RECORD: text, MANIFEST: listing(**{RECORD: entry})}, "names a local path")
    pulled(good | {MANIFEST: b"[" * 100_000}, "is damaged or of another version")
    pulled({name: content for name, content in good.items() if name != MANIFEST}, "not published by LightReasoner")


def test_an_adapter_is_pushed_and_used_as_a_reference(hub, tmp_path, monkeypatch):
    base, tuned = save_tiny(tmp_path / "models" / "base", seed=1), tmp_path / "tuned"
    make_run(tuned, tmp_path / "data", about={"expert": str(base), "fingerprints": {"expert": "e" * 16}})
    shutil.rmtree(tuned / "adapter")
    expected = save_tiny_adapter(tuned / "adapter", tiny_model(1))
    config = json.loads((tuned / "adapter" / "adapter_config.json").read_text())
    (tuned / "adapter" / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))
    code, said = run(hub, "push", tuned, "--repo", "lab/lora", "--license", "apache-2.0", "--public")
    assert code == 0, said
    files = hub.repos["model", "lab/lora"].files
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md", RECORD} < set(files)
    card = files["README.md"].decode()
    data = ModelCard(card).data
    assert (data.base_model, data.library_name, data.license) == ("./base", "peft", "apache-2.0")
    assert str(tmp_path) not in b"".join(v for k, v in files.items() if not k.endswith(".safetensors")).decode()

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    loaded = load_model(f"{base}::lab/lora", Settings(device="cpu", dtype="float32"))
    assert abs(logits_of(loaded.model) - expected).max() < 1e-5
    refused(run(hub, "pull", "lab/lora", "--run-dir", tmp_path / "x"), "needs no pull.*BASE::lab/lora")

    merged = save_tiny(tuned / "merged-40", seed=2)
    code, said = run(hub, "push", tuned, "--merged", merged, "--repo", "lab/whole")
    assert code == 0, said
    files = hub.repos["model", "lab/whole"].files
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= set(files)
    assert ModelCard(files["README.md"].decode()).data.library_name == "transformers"
    refused(run(hub, "push", tuned, "--merged", tmp_path / "data", "--repo", "lab/none"), "is not a merged model")


def test_an_imported_dataset_comes_back(hub, tmp_path):
    lines = [
        {
            "question": f"How many, {n}?",
            "prefix": "It is",
            "tokens": [" 7"],
            "token_ids": [7],
            "weights": [1.0],
            "kl": 0.5,
        }
        for n in range(4)
    ]
    from lightreasoner.datasets.paper_format import (
        paper_line,  # the format's own writer, so that this test needs no copy of it
    )
    from lightreasoner.datasets.samples import Sample

    file = tmp_path / "samples.jsonl"
    with open(file, "wb") as out:
        for n, line in enumerate(lines):
            sample = Sample(f"p{n}", 0, line["question"], n, None, [7], [1.0], 0.5)
            out.write(paper_line(sample, "It is", [" 7"]))
    assert run(None, "import", file, "--run-dir", tmp_path / "imported")[0] == 0
    code, said = run(hub, "push", tmp_path / "imported", "--repo", "me/samples")
    assert code == 0, said
    code, said = run(hub, "pull", "me/samples", "--run-dir", tmp_path / "back")
    assert code == 0, said
    assert (tmp_path / "back" / "samples.parquet").read_bytes() == (
        tmp_path / "imported" / "samples.parquet"
    ).read_bytes()
    assert list(training_samples(tmp_path / "back")) == list(training_samples(tmp_path / "imported"))
