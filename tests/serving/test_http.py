"""Anybody can call every handler over HTTP with any argument: bad ones get a clear answer, and the server lives."""

from __future__ import annotations

import json
import math

import httpx
import pytest
from gradio_client import Client

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


def test_the_documented_values_are_enough_for_gradios_own_client(app):
    """It sends neither the hidden fields of the prompt nor those of the stop strings, and was told that it sent too few
    values. curl leaves out the states, too."""
    remote = Client(app.url, verbose=False)
    stream = remote.predict(*GOOD, api_name="/trace")
    assert json.loads(stream.splitlines()[-1])["end"] in ("stop", "length")
    refused = remote.submit(*GOOD[:6], 10**6, *GOOD[7:], api_name="/trace").result()
    assert "The token limit is 1000000" in refused


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


@pytest.mark.parametrize(
    ("route", "changes", "status", "says"),
    [
        ("queue/join", {"fn_index": 10**6}, 404, "no such event"),
        ("queue/join", {"fn_index": "1"}, 400, "fn_index is '1'; it must be a whole number"),
        ("queue/join", {"fn_index": True}, 400, "fn_index is True"),
        ("run/predict", {"fn_index": -1}, 404, "no such event"),
        ("run/no-such", {"fn_index": None}, 404, "no such event"),
        ("run/predict", {"data": {}}, 400, "data is no list"),
        ("run/predict", {"data": []}, 400, "got 0"),
        ("run/predict", {"data": ["\ud800"] * 40}, 400, "half of a character"),
        ("run/predict", {"session_hash": "\udfff"}, 400, "not a valid session"),
        ("run/predict", {"session_hash": "a/../b"}, 400, "not a valid session"),
        ("run/predict", {"session_hash": {}}, 400, "session_hash is {}"),
        ("run/predict", {"trigger_id": 0.5}, 400, "trigger_id is 0.5"),
        ("run/predict", {"batched": True}, 400, "No event takes batches"),
        (
            "queue/join",
            {"event_data": [[[[]]]] * 2, "data": [None] * 40, "x": json.loads("[" * 70 + "]" * 70)},
            400,
            "levels",
        ),
        ("component_server", {}, 400, "fn_name is None"),
        ("component_server", {"component_id": 10**6, "fn_name": "step"}, 404, "no such function"),
        ("component_server", {"component_id": 1, "fn_name": "__init__"}, 404, "no such function"),
        ("component_server", {"component_id": 1, "fn_name": "a\0\ud800"}, 400, "half of a character"),
        ("cancel", {"event_id": None}, 400, "event_id is None"),
        ("call/v2/no-such", {}, 404, "no endpoint"),
        ("call/v2/trace", {}, 400, "cannot be served"),
        ("call/no-such", {}, 404, "no such event"),
    ],
)
def test_a_bad_message_is_one_sentence_and_one_line_of_the_log(client, app, route, changes, status, says):
    """Unknown events and half characters were a bare 500 and a traceback of kilobytes (12.3 MB of 4,470 requests)."""
    before = app.log.stat().st_size
    message = {"data": [None], "fn_index": 1, "session_hash": "bad"} | changes
    said = client.post(f"gradio_api/{route}", content=json.dumps(message))
    assert said.status_code == status and says in said.json()["error"] and len(said.text) < 300
    logged = app.log.read_bytes()[before:].decode()
    assert len(logged) < 300 and logged.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("gradio_api/file=%00", {}, 400),
        ("a%0d%0ab", {}, 400),
        ("x" * 9_000, {}, 431),
        ("", {"X-Big": "x" * 40_000}, 431),
        ("favicon.ico", {"Range": "bytes=9-1"}, 400),
        ("gradio_api/custom_component/1/client/x/y", {}, 404),
    ],
)
def test_a_bad_address_or_header_is_a_short_refusal(client, app, path, headers, status):
    said = client.get(path, headers=headers)
    assert said.status_code == status and len(said.content) < 300


def test_a_stream_of_no_session_ends_without_a_traceback(client, app):
    """Gradio raises once the answer has begun."""
    before = app.log.stat().st_size
    assert "session_not_found" in client.get("gradio_api/queue/data?session_hash=nobody").text
    assert app.log.stat().st_size < before + 300


def test_traces_cannot_be_listed_or_read_as_files(client, app):
    run = last_value(call_trace(client, GOOD))[0]["run"]
    path = app.workspace / "traces" / f"{run}.json"
    assert path.is_file()
    for route in (f"gradio_api/file={path}", f"file={path}", "gradio_api/file=app.py", "gradio_api/file=/etc/passwd"):
        assert client.get(route).status_code in (403, 404), route
