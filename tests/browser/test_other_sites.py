"""Issue 14: a page of another site, open in the same browser, used a server on the user's own machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, Page

from lightreasoner.jobs.store import JobStore
from tests.support.browser import App

pytestmark = pytest.mark.browser

#: What such a page can try; each entry is what it could read of the answer.
TRIES = """async ([app, call]) => {
    const outcome = async (made) => {
        try {
            const answer = await made();
            return answer.type === "opaque" ? "opaque" : `${answer.status} ${(await answer.text()).slice(0, 200)}`;
        } catch (error) { return "failed"; }
    };
    const file = () => { const form = new FormData(); form.append("files", new Blob(["x"]), "evil.txt"); return form; };
    const post = (path, body, more) => () => fetch(app + path, {method: "POST", body, credentials: "include", ...more});
    const simple = {mode: "no-cors", headers: {"Content-Type": "text/plain"}};
    const json = {headers: {"Content-Type": "application/json"}};
    const said = {
        read: await outcome(() => fetch(app + "config", {credentials: "include"})),
        json: await outcome(post("gradio_api/component_server", call, json)),
        blind: await outcome(post("gradio_api/component_server", call, simple)),
        queue: await outcome(post("gradio_api/queue/join", call, simple)),
        upload: await outcome(post("gradio_api/upload", file())),
        blindUpload: await outcome(post("gradio_api/upload", file(), {mode: "no-cors"})),
    };
    navigator.sendBeacon(app + "gradio_api/component_server", call);
    const submit = (path, enctype, fill) => new Promise((done) => {
        const form = document.createElement("form"), frame = document.createElement("iframe");
        frame.name = path + enctype;
        Object.assign(form, {action: app + path, method: "POST", enctype, target: frame.name});
        document.body.append(form, frame);
        fill(form);
        frame.addEventListener("load", done, {once: true});  // of the answer; that of the empty frame has been
        form.submit();
        setTimeout(done, 2000);
    });
    const cut = call.lastIndexOf('"');  // text/plain sends name=value, which becomes one JSON object
    const [name, value] = [call.slice(0, cut) + '", "x": "', '"}'];
    const hidden = (form) => form.append(Object.assign(document.createElement("input"), {name, value}));
    for (const kind of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
        await submit("gradio_api/component_server", kind, hidden);
    await submit("gradio_api/upload", "multipart/form-data", (form) => {
        const input = Object.assign(document.createElement("input"), {type: "file", name: "files"});
        const files = new DataTransfer();
        files.items.add(new File(["x"], "evil.txt"));
        input.files = files.files;
        form.append(input);
    });
    return said;
}"""


class Empty(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def other_port() -> Iterator[int]:
    """The port of another site's server. It is on this machine, or Chromium itself would refuse what follows."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("place", ["another port", "another name", "a name that turns to this machine"])
def test_a_page_of_another_site_gets_nothing_done(app: App, chromium: Browser, other_port: int, place: str):
    """It read the job list, started jobs and uploaded files."""
    rebound = "turns" in place
    origin = f"http://{'127.0.0.1' if 'port' in place else 'evil.example'}:{app.port if rebound else other_port}"
    store, uploads = JobStore(app.workspace / "jobs" / "jobs.sqlite"), app.workspace / "uploads"
    before = [job.id for job in store.jobs()], sorted(uploads.rglob("*"))
    log = len(app.log.read_text())
    page = chromium.new_context().new_page()
    page.goto(f"{origin}/")  # of the rebound name this is the refusal, whose scripts have the name's origin
    assert page.evaluate("window.origin") == origin
    said = page.evaluate(TRIES, [f"{origin}/" if rebound else app.url, json.dumps(pull_call(app, page))])
    page.context.close()
    assert before == ([job.id for job in store.jobs()], sorted(uploads.rglob("*")))
    refused = app.log.read_text()[log:].count("refused ")
    assert refused >= 10, "everything arrived at the server, and was refused there"
    if rebound:  # the browser takes this machine for the page's own server, so the page reads the refusals
        assert {text[:4] for text in said.values()} == {"403 "}, said
    else:
        assert set(said.values()) <= {"failed", "opaque"}, said


def pull_call(app: App, page: Page) -> dict:
    """A call that would start a job. Its ids are those of every server of this version."""
    config = page.request.get(f"{app.url}config").json()
    calls = [(block["id"], block["props"].get("server_fns") or ()) for block in config["components"]]
    id = next(id for id, functions in calls if "pull" in functions)
    return {"component_id": id, "fn_name": "pull", "data": ["nobody/nothing", ""], "session_hash": "evil"}
