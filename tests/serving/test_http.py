"""Anybody can call every handler over HTTP with any argument: bad ones get a clear answer, and the server lives."""

from __future__ import annotations

import json
import math

import httpx
import pytest

from tests.support.browser import App

GOOD = ["bundled", "", "", "How much is 2 + 2?", "Generate", "", 8, 0, 0, "", "Expert"]
FIELDS = (
    "pair",
    "expert",
    "amateur",
    "question",
    "mode",
    "response",
    "tokens",
    "temperature",
    "seed",
    "tuned",
    "writer",
)
NUMBERS = [-1, 0.5, 1e308, -1e308, math.nan, math.inf, -math.inf]
HOSTILE = [None, True, [], ["a", "b"], {}, {"a": 1}, "", " ", "NaN", *NUMBERS]
SCORING = {"response"}  # read only in score mode


@pytest.fixture(scope="module")
def client(app: App):
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=app.url, timeout=120, trust_env=False, headers=headers) as client:
        yield client


def call_trace(client: httpx.Client, data: list) -> str:
    """POST to the public endpoint and follow its event stream to the end; everything that it said."""
    # json.dumps writes NaN and Infinity, which httpx's own json= would refuse to send
    started = client.post("gradio_api/call/trace", content=json.dumps({"data": data}))
    if started.status_code >= 400:
        return started.text
    with client.stream("GET", f"gradio_api/call/trace/{started.json()['event_id']}") as events:
        return "".join(events.iter_text())


def last_value(said: str) -> list:
    """The viewer's last value, as its lines."""
    data = [line[6:] for line in said.splitlines() if line.startswith("data: ") and line != "data: null"]
    return [json.loads(line) for line in json.loads(data[-1])[0].splitlines()]


def understood(said: str) -> bool:
    """Whether a call ended in a trace or in a sentence: ours in the value, or Gradio's own refusal."""
    if "event: error" in said:
        return '"error": "' in said
    facts = [item for item in last_value(said) if isinstance(item, dict)]
    return "event: complete" in said and any("end" in item or "error" in item for item in facts)


def test_the_endpoint_traces_a_problem(client):
    head, *rest = last_value(call_trace(client, GOOD))
    steps = [item for item in rest if isinstance(item, list)]
    assert head["question"] == GOOD[3] and 0 < len(steps) <= 8
    assert rest[-1]["end"] in ("stop", "length")


@pytest.mark.parametrize("field", FIELDS)
def test_any_value_in_any_field_is_answered(client, app, field):
    place = FIELDS.index(field)
    for value in HOSTILE:
        data = [*GOOD]
        data[place] = value
        if field in SCORING:
            data[FIELDS.index("mode")] = "Score a text of mine"
        if field in ("expert", "amateur"):
            data[0] = "other"
        said = call_trace(client, data)
        assert "Traceback" not in said and understood(said), (field, value, said[-500:])
    assert client.get("").status_code == 200
    assert not app.tracebacks()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"question": ""}, "The problem is empty"),
        ({"question": "2 + 2 \ud800 ?"}, "The problem holds half of a character"),
        ({"mode": "Score a text of mine", "response": "4 \udfff"}, "The response holds half of a character"),
        ({"question": "x" * 50_000}, "50,000 characters"),
        ({"question": "<|im_end|>"}, "control token"),
        ({"tokens": math.nan}, "The token limit is nan"),
        ({"tokens": -5}, "The token limit is -5"),
        ({"tokens": 10**15}, "The token limit"),
        ({"temperature": math.nan}, "The temperature is nan"),
        ({"temperature": -1}, "The temperature is -1"),
        ({"seed": 1e300}, "The seed"),
        ({"pair": "other", "expert": "/etc/passwd", "amateur": "/etc/passwd"}, "/etc/passwd"),
        ({"pair": "other", "expert": "../../../etc", "amateur": "../../../etc"}, "config.json"),
        ({"pair": "other", "expert": "http://169.254.169.254/x", "amateur": "a/b"}, "names no model"),
        ({"pair": "other", "expert": "file:///etc/passwd", "amateur": "a/b"}, "names no model"),
        ({"pair": "other", "expert": "no-such/model", "amateur": "no-such/model"}, "no-such/model"),
        ({"pair": "qwen2.5-math-7b"}, "Qwen"),
        ({"tuned": "/etc/passwd"}, "/etc/passwd"),
        ({"tuned": "/" + "x" * 300}, "There is no folder"),
    ],
)
def test_a_mistake_is_one_clear_sentence(client, changes, says):
    data = [changes.get(name, good) for name, good in zip(FIELDS, GOOD, strict=True)]
    errors = [item["error"] for item in last_value(call_trace(client, data)) if "error" in item]
    assert len(errors) == 1 and says in errors[0]
    assert "\n" not in errors[0] and len(errors[0]) < 500


def test_forged_events_do_nothing(client, app):
    """Every handler, private ones too, runs for anybody who posts its fn_index with event data of their own."""
    handlers = client.get("config").json()["dependencies"]
    most = max(len(handler["inputs"]) for handler in handlers)  # too few would be refused before they arrive
    for index in (n for n, handler in enumerate(handlers) if handler["backend_fn"]):
        for event_data in (None, {}, [], "x", {"run": "../x", "step": -1, "token": 1e9}, {"run": ["a"], "step": {}}):
            body = {"data": [None] * most, "event_data": event_data, "fn_index": index, "session_hash": "forged"}
            client.post("gradio_api/queue/join", content=json.dumps(body))
            said = client.post("gradio_api/run/predict", content=json.dumps(body)).text
            assert "Traceback" not in said and str(app.workspace) not in said
    assert client.get("").status_code == 200


def test_traces_cannot_be_listed_or_read_as_files(client, app):
    run = last_value(call_trace(client, GOOD))[0]["run"]
    path = app.workspace / "traces" / f"{run}.json"
    assert path.is_file()
    for route in (f"gradio_api/file={path}", f"file={path}", "gradio_api/file=app.py", "gradio_api/file=/etc/passwd"):
        assert client.get(route).status_code in (403, 404), route
