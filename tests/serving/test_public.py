"""A public server over plain HTTP: visitors get what the rules allow and nothing else."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import httpx
import pytest

from lightreasoner.serving.permissions import Action
from lightreasoner.settings import ROOT, Settings
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import begin_run
from tests.support.browser import App
from tests.support.browser_jobs import JobsApp
from tests.support.nginx import NGINX, documented_block, nginx
from ui.access.actions import action_of
from ui.compat.gradio import callable_functions
from ui.components.pair_card import OTHER
from ui.page import build
from ui.studio import Studio

USER, PASSWORD = "ann", "a long word: yes"
SECRET = "The owner's secret plan"  # in the title of a job, the name of a dataset …
GOOD = ["bundled", "", "", "How much is 2 + 2?", "Generate", "", 8, 0, 0, "", "Expert"]
BELONGS = "belongs to the owner of this server"
ADDRESSES = itertools.count(1)
IDS: dict[httpx.URL, dict[tuple[str, str], int]] = {}  # a server's address → the components of its calls
LIMITS = {"visitor_tokens": 64, "visitor_traces": 1, "public_traces": 2, "traces_per_minute": 1000, "max_upload_mb": 1}


class PublicApp(JobsApp):
    """A public server with the owner's runs, written before it started."""

    def __init__(self, workspace):
        super().__init__(workspace, public=1, login=f"{USER}:{PASSWORD}", uploads_per_hour=5, **LIMITS)
        self.dataset, self.job = new_id(), None

    def furnish(self) -> PublicApp:
        folder = self.workspace / "runs" / self.dataset
        begin_run(folder, "dataset", {"problems": SECRET, "limit": 7}, {"pair": {"name": "bundled"}})
        self.job = self.past(SECRET, "failed", SECRET)
        return self


@contextmanager
def serving_public(workspace: Path) -> Iterator[PublicApp]:
    """The server runs inside the block, and its log must hold no traceback."""
    app = PublicApp(workspace).furnish()
    app.start("--no-preload")
    yield app
    app.stop()
    assert not app.tracebacks()


@pytest.fixture(scope="module")
def public(tmp_path_factory) -> Iterator[PublicApp]:
    with serving_public(tmp_path_factory.mktemp("public")) as app:
        yield app


@contextmanager
def visitor(app: App, **headers: str) -> Iterator[httpx.Client]:
    """A client that the server takes for a browser of its own: it gets its own cookie with the page and, as the server
    trusts a proxy on its own machine, has its own address."""
    headers = {"X-Forwarded-For": f"198.51.100.{next(ADDRESSES)}", "Content-Type": "application/json"} | headers
    with httpx.Client(base_url=app.url, timeout=120, trust_env=False, headers=headers) as client:
        client.get("")
        yield client


@pytest.fixture
def stranger(public) -> Iterator[httpx.Client]:
    with visitor(public) as client:
        yield client


@contextmanager
def signed_in(app: App) -> Iterator[httpx.Client]:
    with visitor(app) as client:
        assert sign_in(client, USER, PASSWORD).status_code == 303
        yield client


@pytest.fixture
def owner(public) -> Iterator[httpx.Client]:
    with signed_in(public) as client:
        yield client


def sign_in(client: httpx.Client, user: str, password: str) -> httpx.Response:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    return client.post("sign-in", data={"user": user, "password": password}, headers=form)


def events(client: httpx.Client) -> list[dict]:
    return [event for event in client.get("config").json()["dependencies"] if event["backend_fn"]]


def twin(app: App) -> gr.Blocks:
    """The page, built here exactly as on the server."""
    return build(Studio(Settings(workspace=app.workspace / "twin", device="cpu", public=True)))


def actions_of_events(app: App) -> dict[int, Action]:
    """Event id → its action."""
    return {id: action_of(event.fn) for id, event in twin(app).fns.items() if event.fn}


def server_calls(client: httpx.Client) -> list[tuple[str, int, str]]:
    """(element id, component id, function) of every call of the scripts."""
    found = []
    for component in client.get("config").json()["components"]:
        for function in component["props"].get("server_fns") or component.get("server_fns") or ():
            found.append((component["props"].get("elem_id"), component["id"], function))
    return found


def call(client: httpx.Client, id: int, function: str, arguments: object) -> httpx.Response:
    session = f"of-{client.cookies['lr_visitor']}"
    body = {"component_id": id, "fn_name": function, "data": arguments, "session_hash": session}
    return client.post("gradio_api/component_server", content=json.dumps(body))


def ask(client: httpx.Client, elem_id: str, function: str, *arguments: object) -> dict:
    if client.base_url not in IDS:
        IDS[client.base_url] = {(name, known): id for name, id, known in server_calls(client)}
    return call(client, IDS[client.base_url][elem_id, function], function, list(arguments)).json()


def trace(client: httpx.Client, **changes: object) -> str:
    """Run the public endpoint to its end; all of its output."""
    places = {"pair": 0, "expert": 1, "amateur": 2, "question": 3, "mode": 4, "response": 5, "tokens": 6, "tuned": 9}
    data = [*GOOD]
    for name, value in changes.items():
        data[places[name]] = value
    began = client.post("gradio_api/call/trace", content=json.dumps({"data": data}))
    if began.status_code != 200:
        return began.text
    with client.stream("GET", f"gradio_api/call/trace/{began.json()['event_id']}") as said:
        return "".join(said.iter_text())


def heard(client: httpx.Client, session: str) -> str:
    """The messages of the queue to a session, until one of its events has ended."""
    told = ""
    with client.stream("GET", f"gradio_api/queue/data?session_hash={session}") as said:
        for part in said.iter_text():
            told += part
            if "process_completed" in told:
                break
    return told


def run_of(said: str) -> str:
    last = [line[6:] for line in said.splitlines() if line.startswith("data: [")][-1]
    return json.loads(json.loads(last)[0].splitlines()[0])["run"]


def test_the_page_shows_visitors_nothing_of_the_owners_runs(public, stranger):
    for page in ("", "config", "gradio_api/info", "sign-in"):
        said = stranger.get(page)
        assert said.status_code == 200
        for secret in (SECRET, public.dataset, public.job.id, str(public.workspace), PASSWORD):
            assert secret not in said.text, (page, secret)


def test_cookies_are_random_and_hidden_from_scripts(public):
    with visitor(public) as one, visitor(public) as other:
        assert one.cookies["lr_visitor"] != other.cookies["lr_visitor"] and len(one.cookies["lr_visitor"]) >= 22
        kept = one.get("").headers.get_list("set-cookie")
        assert not any("lr_visitor" in cookie for cookie in kept), "who has an id keeps it"
    with httpx.Client(base_url=public.url, trust_env=False) as new:
        cookies = new.get("").headers.get_list("set-cookie")
    made = next(cookie for cookie in cookies if cookie.startswith("lr_visitor="))
    assert "HttpOnly" in made and "SameSite=Lax" in made


def test_every_event_is_refused_or_for_visitors(public, stranger):
    """All events in the page's config that are not for visitors refuse them, in both ways to call an event and with any
    event data."""
    actions = actions_of_events(public)
    assert {event["id"] for event in events(stranger)} == set(actions), "the twin is laid out differently"
    before = sorted(public.workspace.rglob("*.json")), len(public.jobs().store.jobs())
    session = new_id()  # one page: the server copies all of its components for another
    for event in events(stranger):
        inputs = [None] * len(event["inputs"])
        for data in ({}, {"run": public.dataset, "dataset": public.dataset}):
            body = {"data": inputs, "event_data": data, "fn_index": event["id"], "session_hash": session}
            said = stranger.post("gradio_api/run/predict", content=json.dumps(body))
            assert "Traceback" not in said.text and str(public.workspace) not in said.text and SECRET not in said.text
            if not actions[event["id"]].visitors:
                assert said.status_code == 400 and BELONGS in said.json()["error"], actions[event["id"]]
    assert before == (sorted(public.workspace.rglob("*.json")), len(public.jobs().store.jobs()))


@pytest.mark.parametrize("name", ["build_dataset", "finetune", "evaluate", "estimate_dataset", "estimate_finetune"])
def test_named_endpoints_are_refused_in_the_queue_too(stranger, name):
    event = next(event for event in events(stranger) if event["api_name"] == name)
    body = {"data": [None] * len(event["inputs"]), "fn_index": event["id"], "session_hash": (session := new_id())}
    assert stranger.post("gradio_api/queue/join", content=json.dumps(body)).status_code == 200
    assert BELONGS in heard(stranger, session)


def test_every_call_of_the_scripts_is_refused_or_for_visitors(public, stranger):
    found = server_calls(stranger)
    known = {function.__name__ for function in callable_functions(twin(public)) if hasattr(function, "_is_server_fn")}
    assert {function for _, _, function in found} == known
    open_calls = {
        ("lr-viewer", "step"),
        ("lr-viewer", "export"),
        ("lr-viewer", "stop"),
        ("lr-viewer", "origin"),
        ("lr-viewer", "beside"),
        ("lr-top", "header_status"),
    }
    for name, id, function in found:
        for arguments in ([public.dataset], [public.job.id, "delete", 5, None, {}], [5, public.job.id, {}], None, "x"):
            said = call(stranger, id, function, arguments)
            assert said.status_code == 200 and SECRET not in said.text
            if (name, function) not in open_calls:
                assert BELONGS in said.json()["error"], (name, function)
    assert public.jobs().store.get(public.job.id)
    missing = call(stranger, found[0][1], "__init__", [])
    assert missing.status_code == 404


def test_the_owner_signs_in_and_out(public, stranger, owner):
    assert ask(stranger, "lr-jobs", "look", 5, None, {})["error"]
    seen = ask(owner, "lr-jobs", "look", 5, public.job.id, {})
    assert seen["opened"]["title"] == SECRET
    assert ask(owner, "lr-datasets", "overview", None, 0.2, 0.4, "kl", None)["datasets"]
    for _ in range(2):
        assert sign_in(stranger, USER, "wrong").status_code == 403
    stranger.cookies.set("lr_owner", "guessed")
    stranger.cookies.set("lr_role", "owner")  # which only shows more of the page
    assert ask(stranger, "lr-jobs", "look", 5, None, {})["error"]
    word = owner.cookies["lr_owner"]
    assert owner.post("sign-out", headers={"Content-Type": "application/x-www-form-urlencoded"}).status_code == 303
    owner.cookies.set("lr_owner", word)
    assert BELONGS in ask(owner, "lr-jobs", "look", 5, None, {})["error"], "the old word is worth nothing"


def test_password_attempts_are_limited(public):
    with visitor(public, **{"X-Forwarded-For": "203.0.113.7"}) as guesser:
        said = [sign_in(guesser, USER, f"guess {n}").status_code for n in range(7)]
        assert said == [403] * 5 + [429] * 2
        assert sign_in(guesser, USER, PASSWORD).status_code == 429
        guesser.cookies.set("lr_device", f"{'x' * 22}.{'0' * 64}")
        assert sign_in(guesser, USER, PASSWORD).status_code == 429, "a made-up mark of a browser is worth nothing"
    with visitor(public) as other:
        assert sign_in(other, USER, PASSWORD).status_code == 303, "nobody else is kept out"
        assert sign_in(other, "x" * 10_000, "\0\u202e{{7*7}}").status_code == 403


def test_strangers_attempts_do_not_lock_out_a_browser_of_the_owner(public):
    """Behind a proxy that tells no addresses, five wrong passwords kept everybody out for ten minutes."""
    shared = {"X-Forwarded-For": "203.0.113.8"}
    with visitor(public, **shared) as owner, visitor(public, **shared) as guesser:
        assert sign_in(owner, USER, PASSWORD).status_code == 303
        assert [sign_in(guesser, USER, f"guess {n}").status_code for n in range(5)][-1] == 429
        owner.cookies.delete("lr_owner")
        assert sign_in(owner, USER, PASSWORD).status_code == 303
        said = [sign_in(owner, USER, "wrong").status_code for _ in range(6)]
        assert said == [403] * 5 + [429], "whoever has the cookie cannot try passwords for ever"


def test_a_made_up_address_evades_no_limit(public):
    """The proxy adds the client's address at the end; the client wrote the rest."""
    with visitor(public) as guesser:
        said = []
        for n in range(6):
            guesser.headers["X-Forwarded-For"] = f"6.6.6.{n}, 203.0.113.9"
            said.append(sign_in(guesser, USER, f"guess {n}").status_code)
        assert said == [403] * 5 + [429]


@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
def test_behind_the_documented_nginx_block_each_client_is_counted_by_itself(public, tmp_path):
    """Everybody was 127.0.0.1, and a made-up X-Forwarded-For was believed."""

    def client(address: str) -> httpx.Client:
        transport = httpx.HTTPTransport(local_address=address)
        return httpx.Client(base_url=f"{home}/", transport=transport, trust_env=False)

    with nginx(tmp_path, public.port, documented_block()) as home:
        origin = "/".join(home.split("/")[:3])
        with client("127.0.0.2") as owner, client("127.0.0.3") as guesser, client("127.0.0.4") as other:
            assert sign_in(owner, USER, PASSWORD).status_code == 303
            said = []
            for n in range(6):
                guesser.headers["X-Forwarded-For"] = f"6.6.6.{n}"
                said.append(sign_in(guesser, USER, f"guess {n}").status_code)
            assert said == [403] * 5 + [429]
            assert sign_in(other, USER, PASSWORD).status_code == 303, "nobody else is kept out"
            page = owner.get("", headers={"X-Forwarded-Host": "evil.example"})
            assert page.status_code == 200 and "You are a visitor" in page.text
            own = owner.post("gradio_api/component_server", json={}, headers={"Origin": origin})
            assert own.status_code == 400, "it arrives, and calls nothing"
            assert owner.get("", headers={"Host": "evil.example"}).status_code == 403
            foreign = {"Origin": "http://127.0.0.1:1"}
            assert owner.post("gradio_api/component_server", json={}, headers=foreign).status_code == 403


def test_a_visitor_inspects_presets_within_limits(stranger):
    said = trace(stranger)
    run = run_of(said)
    step = ask(stranger, "lr-viewer", "step", run, 0)
    assert step["candidates"]["ids"]
    assert json.loads(ask(stranger, "lr-viewer", "export", run, "json", 0.2, 0.4)["content"])["id"] == run
    assert "from 1 to 64" in trace(stranger, tokens=65)
    for changes in (
        {"pair": OTHER, "expert": "/etc/passwd", "amateur": "/etc/passwd"},
        {"pair": OTHER, "expert": "lightreasoner-expert-4m", "amateur": "lightreasoner-amateur-1m"},
        {"tuned": "/etc/passwd"},
        {"tuned": "https://example.org/adapter"},
        {"pair": "qwen2.5-math-7b"},
        {"pair": ["bundled"]},
        {"pair": None},
    ):
        said = trace(stranger, **changes)
        assert '"end' not in said and "Traceback" not in said and "No such file" not in said, changes
    named = ("bundled", "/etc/passwd", "/etc/passwd")
    said = trace(stranger, **dict(zip(("pair", "expert", "amateur"), named, strict=True)))
    assert run_of(said) and "passwd" not in said, "a preset's models come from the catalogue"


def test_a_branch_of_the_owners_own_models_is_refused(public, stranger):
    """A visitor with the link may read a trace; continuing it would load the owner's models."""
    record = json.loads(ask(stranger, "lr-viewer", "export", run_of(trace(stranger)), "json", 0.2, 0.4)["content"])
    record["id"] = new_id()
    record["pair"] |= {"name": None, "expert": "/srv/models/own", "amateur": "/srv/models/own"}
    (public.workspace / "traces" / f"{record['id']}.json").write_text(json.dumps(record))
    assert ask(stranger, "lr-viewer", "step", record["id"], 0)["candidates"]
    branch = next(event for event in events(stranger) if event["targets"][0][1] == "branch")
    data = {"run": record["id"], "step": 0, "token": record["steps"][0]["token_id"]}
    body = {"data": [], "event_data": data, "fn_index": branch["id"], "session_hash": new_id()}
    stranger.post("gradio_api/queue/join", content=json.dumps(body))
    told = heard(stranger, body["session_hash"])
    assert "Other models belong to the owner" in told and "/srv/models" not in told.replace("\\/", "/")


def test_one_visitors_flood_does_not_stop_others(public):
    """More runs at once than allowed: each ends or gets the reason, and another visitor's run works."""

    def run(client) -> str:
        said = trace(client, tokens=64, question="Tell a long story about 17 apples.")
        return "ran" if '\\"end\\"' in said else "refused" if "your runs" in said or "at work" in said else said

    with visitor(public) as greedy, visitor(public) as other, ThreadPoolExecutor(9) as pool:
        flood = [pool.submit(run, greedy) for _ in range(8)]
        ends = [future.result() for future in flood]
        assert set(ends) == {"ran", "refused"}
        assert run(other) == "ran"


def test_sessions_traces_and_downloads_of_others(public, stranger, owner):
    session = new_id()
    open_event = next(event for event in events(stranger) if event["api_name"] == "another_problem")
    body = {"data": [None], "fn_index": open_event["id"], "session_hash": session}
    assert stranger.post("gradio_api/run/predict", content=json.dumps(body)).status_code == 200
    with visitor(public) as other:
        for said in (
            other.post("gradio_api/run/predict", content=json.dumps(body)),
            other.post("gradio_api/queue/join", content=json.dumps(body)),
            other.post("gradio_api/cancel", content=json.dumps(body | {"event_id": "x"})),
            other.get("gradio_api/queue/data", params={"session_hash": session}, timeout=10),
            other.get(f"gradio_api/heartbeat/{session}", timeout=10),
        ):
            assert said.status_code == 403 and "another user" in said.text
        run = run_of(trace(stranger))
        assert ask(other, "lr-viewer", "stop", run, "guessed") == {}
        for wrong in (run[:-1], "../" + run, "", None, f"{run}.json"):
            assert "error" in ask(other, "lr-viewer", "step", wrong, 0)
    (public.workspace / "downloads" / (id := new_id())).mkdir(parents=True)
    (public.workspace / "downloads" / id / "samples.jsonl").write_text(SECRET)
    assert stranger.get(f"downloads/{id}").status_code == 403
    assert owner.get(f"downloads/{id}").text == SECRET


@pytest.mark.parametrize(
    "route",
    [
        "gradio_api/file={workspace}/runs/{dataset}/run.json",
        "gradio_api/file={workspace}/jobs/jobs.sqlite",
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=app.py",
        "gradio_api/file=../../etc/passwd",
        "gradio_api/file/..%2f..%2fetc/passwd",
        "gradio_api/file=http://169.254.169.254/latest/meta-data",
        "file=/etc/passwd",
        "static/..%2f..%2f..%2fetc/passwd",
        "assets/..%2f..%2f..%2f..%2fetc/passwd",
        "svelte/..%2f..%2f..%2fetc/passwd",
        "downloads/..%2f..%2fjobs",
        "downloads/../jobs/jobs.sqlite",
        "gradio_api/proxy=http://169.254.169.254/",
        "gradio_api/custom_component/..%2f..%2f/x/y/z",
        "gradio_api/deep_link?session_hash=x",
        "monitoring",
        "gradio_api/runs",
    ],
)
def test_no_route_leads_to_files(public, stranger, route):
    path = route.format(workspace=public.workspace, dataset=public.dataset)
    said = stranger.get(path)
    assert said.status_code in (400, 403, 404, 405, 422), (path, said.status_code)
    assert "root:" not in said.text and SECRET not in said.text


def test_file_fields_take_uploads_only(public, stranger):
    event = next(event for event in events(stranger) if event["api_name"] == "opened")
    for value in (
        {"path": "/etc/passwd"},
        {"path": str(public.workspace / "runs" / public.dataset / "run.json")},
        {"path": "app.py"},
        {"path": "http://169.254.169.254/x", "url": "http://169.254.169.254/x"},
        {"path": "", "url": "http://127.0.0.1:9/x"},
        {"path": "a\0b"},
        "/etc/passwd",
        ["/etc/passwd"],
        7,
    ):
        value = value | {"meta": {"_type": "gradio.FileData"}} if isinstance(value, dict) else value
        body = {"data": [value], "fn_index": event["id"], "session_hash": new_id()}
        said = stranger.post("gradio_api/run/predict", content=json.dumps(body))
        assert "root:" not in said.text and SECRET not in said.text and "problems:" not in said.text, value
        assert str(ROOT) not in said.text, value
        if isinstance(value, dict) and "://" in value["path"]:
            assert said.status_code == 400 and "Upload the file" in said.text


def test_reading_files_is_limited_per_minute(public, stranger):
    event = next(event for event in events(stranger) if event["api_name"] == "choose_source")
    body = {"data": ["bundled-test"], "fn_index": event["id"], "session_hash": new_id()}
    said = [stranger.post("gradio_api/run/predict", content=json.dumps(body)) for _ in range(22)]
    assert [one.status_code for one in said] == [200] * 20 + [400] * 2 and "Too many files" in said[-1].text
    with visitor(public) as other:
        body["session_hash"] = new_id()
        assert other.post("gradio_api/run/predict", content=json.dumps(body)).status_code == 200


def test_calls_are_limited(public):
    """300 per minute and visitor, and a few hundred more per address if cookies are deleted."""
    with visitor(public) as one, visitor(public) as other:
        said = [one.post("gradio_api/component_server", content=b"{}").status_code for _ in range(305)]
        assert set(said[:300]) == {400} and set(said[300:]) == {429}
        assert other.post("gradio_api/component_server", content=b"{}").status_code == 400


@pytest.mark.parametrize("path", ["gradio_api/queue/join", "gradio_api/component_server", "sign-in"])
def test_bodies_are_limited(stranger, path):
    kind = {"Content-Type": "application/x-www-form-urlencoded"} if path == "sign-in" else {}
    said = stranger.post(path, content=b"[" * 1_100_000, headers=kind)
    assert said.status_code == 413 and "too large" in said.text
    said = stranger.post(path, content=(b"[" * 100_000 for _ in range(12)), headers=kind)  # without a length
    assert said.status_code == 413


def test_deep_and_broken_bodies_get_an_answer(stranger):
    for body in (b"", b"{", b"[" * 100_000, b"null", b"7", b'{"session_hash": {}}', b'{"session_hash": "' + b"x" * 500):
        for path in ("gradio_api/queue/join", "gradio_api/run/predict", "gradio_api/component_server"):
            assert stranger.post(path, content=body).status_code in (400, 403, 404), (path, body[:20])
    assert stranger.get("").status_code == 200


def test_other_routes_accept_no_post(stranger):
    for path in ("", "login", "config", "gradio_api/stream/x", "gradio_api/process_recording", "gradio_api/vibe-edit"):
        assert stranger.post(path, content=b"{}").status_code in (404, 405), path
    for method in ("PUT", "DELETE", "PATCH", "TRACE"):
        assert stranger.request(method, "gradio_api/queue/join").status_code == 405


def test_cross_site_requests_change_nothing(public, owner):
    """The browser of the signed-in owner is on another site's page."""
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        said = owner.post("gradio_api/component_server", content=b"{}", headers=headers)
        assert said.status_code == 403 and "another site" in said.text
        assert owner.post("sign-out", headers=headers).status_code == 403
    own = {"Origin": public.url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert owner.post("gradio_api/component_server", content=b"{}", headers=own).status_code != 403


def test_uploads_are_limited(public):
    problem = json.dumps({"question": "What is 2 + 2?", "answer": "4"}).encode()
    with visitor(public) as client:
        del client.headers["Content-Type"]
        big = client.post("gradio_api/upload", files={"files": ("a.jsonl", b"x" * 2_000_000)})
        assert big.status_code == 413
        said = [client.post("gradio_api/upload", files={"files": ("a.jsonl", problem)}) for _ in range(6)]
        assert [one.status_code for one in said] == [200] * 5 + [429]
        path = said[0].json()[0]
        hostile = client.post("gradio_api/upload", files={"files": ("../../../x.jsonl", problem)})
        assert hostile.status_code == 429
        assert path.startswith("uploads/") and str(public.workspace.parent) not in said[0].text, "the server's paths"
        assert (public.workspace / path).read_bytes() == problem
        shown = client.get(f"gradio_api/file={path}")
        assert shown.content == problem, "the link that the page makes of it"
        event = next(event for event in events(client) if event["api_name"] == "opened")
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        body = {"data": [file], "fn_index": event["id"], "session_hash": new_id()}
        answer = client.post("gradio_api/run/predict", json=body)
        assert answer.status_code == 200 and "What is 2 + 2?" in answer.text
        assert str(public.workspace.parent) not in answer.text
    assert not (public.workspace.parent / "x.jsonl").exists()
    with visitor(public) as other:
        del other.headers["Content-Type"]
        said = other.post("gradio_api/upload", files={"files": ("../../x.jsonl", problem)})
        assert said.status_code == 200 and ".." not in said.json()[0], "nobody else is kept out"
        cut = other.post("gradio_api/upload", files={"files": ("a" * 300, b"x")})
        assert cut.status_code in (200, 400)
        wrong = other.post("gradio_api/upload", files={"other": ("a", b"x")})
        assert wrong.json() == []
    assert not list((public.workspace / "uploads").glob("tmp*")), "what such uploads left"


def test_the_log_holds_no_secret(public, owner):
    sign_in(owner, USER, "wrong")
    log = public.log.read_text()
    assert PASSWORD not in log and owner.cookies["lr_owner"] not in log
