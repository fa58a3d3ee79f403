"""The ASGI middleware that reads JSON messages and uploads before Gradio does: whatever Gradio would fail on is refused
in a sentence, and nobody is told where the server keeps uploads.
"""

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from ui.access.gate import API, Rejected, route_of
from ui.compat.gradio import all_inputs, event_of, server_function

MAX_DEPTH = 60  # of lists and objects within each other
SESSION = re.compile(r"[\w.:-]{1,100}", re.ASCII)
ROUTE = re.compile(rf"{API}/(?P<call>[a-z_]+(?:/v2)?)(?:/(?P<name>[^/]+))?/?")
#: Field → its type and what it is called in a refusal. All but those of REQUIRED may be missing or null.
FIELDS = {
    **dict.fromkeys(("session_hash", "event_id", "fn_name", "oauth_token"), (str, "a text")),
    **dict.fromkeys(("fn_index", "trigger_id", "component_id"), (int, "a whole number")),
    **dict.fromkeys(("simple_format", "batched"), (bool, "true or false")),
}
REQUIRED = {
    "component_server": ("session_hash", "component_id", "fn_name"),
    "cancel": ("session_hash", "fn_index", "event_id"),
    "reset": ("event_id",),
    "queue": ("session_hash", "fn_index"),
}
#: This endpoint reports half characters itself, in its stream.
SPEAKS_FOR_ITSELF = "trace"
#: What clients are told of an upload's path: without the folder of all uploads.
UPLOADED = re.compile(r"uploads(/[0-9a-f]{64}/[^/\0]+)")


class MessageMiddleware:
    """See the module. `most` is the limit of a message in bytes."""

    def __init__(self, app: Any, most: int):
        self.app, self.most, self._uploading = app, most, 0

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        path = route_of(scope) if scope["type"] == "http" else ""
        if scope["type"] != "http" or not path.startswith(API):
            await self.app(scope, receive, send)
        elif scope["method"] != "POST":
            for start in (f"{API}/file=", f"{API}/file/"):
                if path.startswith(start) and (known := UPLOADED.fullmatch(path.removeprefix(start))):
                    scope = scope | {"path": f"{scope['path'].removesuffix(known[0])}{folder_of(scope)}{known[1]}"}
            await self.app(scope, receive, send)
        elif path.startswith(f"{API}/upload"):
            await self._upload(scope, receive, send)
        else:
            body = await read_body(receive, self.most)
            message = read_message(body)
            check_message(path, message, scope["app"].get_blocks())
            if restore_paths(message, folder_of(scope)):
                body = json.dumps(message).encode()
            await self.app(scope, replay_body(body, receive), send)

    async def _upload(self, scope: dict, receive: Any, send: Any) -> None:
        """Names the uploads without their folder, and removes what Gradio leaves of requests that it refuses."""
        folder, started, body = folder_of(scope), {}, bytearray()

        async def send_names(message: dict) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            content = bytes(body).replace(json.dumps(folder)[1:-1].encode() + b"/", b"uploads/")
            if self._uploading == 1:  # before the answer: who has it finds nothing left
                remove_leftovers(folder)
            kept = [(name, value) for name, value in started["headers"] if name.lower() != b"content-length"]
            await send(started | {"headers": [*kept, (b"content-length", str(len(content)).encode())]})
            await send({"type": "http.response.body", "body": content})

        self._uploading += 1
        try:
            await self.app(scope, receive, send_names)
        finally:
            self._uploading -= 1
            if not self._uploading:
                remove_leftovers(folder)


def remove_leftovers(folder: str) -> None:
    """Remove what Gradio leaves of uploads that it refuses; finished ones lie in folders."""
    for left in Path(folder).glob("tmp*"):
        with suppress(OSError):
            os.truncate(left, 0)  # Gradio holds it open, so that its space would stay taken
            left.unlink()


def folder_of(scope: dict) -> str:
    """The folder in which Gradio stores uploads."""
    return str(scope["app"].uploaded_file_dir)


def read_message(body: bytes) -> dict:
    """The JSON object in a body. Raises Rejected."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise Rejected(400, "The body of the request is no JSON object; send one.")
    return message


def check_message(path: str, message: dict, page: gr.Blocks) -> None:
    """Raises Rejected for a message that this route cannot serve: of wrong types, or to what does not exist."""
    route = ROUTE.fullmatch(path)
    call, name = (route["call"], route["name"]) if route else ("", None)
    if any(depth > MAX_DEPTH for _, depth in values_within(message)):
        raise Rejected(400, f"The message nests more than {MAX_DEPTH} levels deep; send a flatter one.")
    if call == "call/v2":  # its fields are the event's parameters
        if not event_of(page, None, name):
            raise Rejected(404, f"There is no endpoint {name!a:.60}; {API}/info lists them.")
        check_characters(message)
        return
    check_fields(message, REQUIRED.get(call, ()))
    if call in ("cancel", "reset"):
        check_characters(message)
        return
    if call == "component_server":
        check_characters(message)
        if "data" not in message:
            raise Rejected(400, "The message has no field data; send one.")
        if not server_function(page, message["component_id"], message["fn_name"]):
            raise Rejected(404, "There is no such function; reload the page.")
        return
    index = message.get("fn_index") if call != "call" else None  # which Gradio reads by its name
    event = event_of(page, index, name)
    if not event:
        raise Rejected(404, f"There is no such event; reload the page, or see {API}/info.")
    if event.api_name != SPEAKS_FOR_ITSELF:
        check_characters(message)
    data = message.get("data")
    if not isinstance(data, list):
        raise Rejected(400, "The field data is no list; send the event's values in one.")
    if len(all_inputs(event, data)) < len(event.inputs):
        raise Rejected(400, f"The event takes {len(event.inputs)} values and got {len(data)}; see {API}/info.")


def check_fields(message: dict, required: tuple[str, ...]) -> None:
    """Raises Rejected for a field that is missing or of another type."""
    for name, (kind, called) in FIELDS.items():
        value = message.get(name)
        if (value is None and name in required) or (value is not None and type(value) is not kind):
            raise Rejected(400, f"The field {name} is {value!a:.40}; it must be {called}.")
    session = message.get("session_hash")
    if session is not None and not SESSION.fullmatch(session):
        raise Rejected(400, "This is not a valid session; use letters, digits and dashes.")
    if message.get("batched"):
        raise Rejected(400, "No event takes batches; leave the field batched out.")


def check_characters(message: dict) -> None:
    """Raises Rejected for half characters (lone surrogates), which cannot be stored or sent."""
    for value, _ in values_within(message):
        texts = value if isinstance(value, dict) else [value]
        for text in texts:
            if isinstance(text, str) and not text.isascii() and re.search("[\ud800-\udfff]", text):
                raise Rejected(400, "A text holds half of a character (a lone surrogate); remove it.")


def values_within(message: object) -> list[tuple[object, int]]:
    """All values in a message with their depth, containers first."""
    found = [(message, 0)]
    for value, depth in found:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        found += [(item, depth + 1) for item in inner]
    return found


def restore_paths(message: dict, folder: str) -> bool:
    """Put the folder back into the paths of uploads; whether there were any."""
    changed = False
    for value, _ in values_within(message):
        path = value.get("path") if isinstance(value, dict) else None
        if isinstance(path, str) and (known := UPLOADED.fullmatch(path)):
            value["path"], changed = folder + known[1], True
    return changed


async def read_body(receive: Any, limit: int) -> bytes:
    """The body of a request. Raises Rejected if it has more than `limit` bytes."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Rejected(400, "The request was cut off.")
        body += message.get("body", b"")
        if len(body) > limit:
            raise Rejected(413, f"The request is too large; the limit is {limit:,} bytes.")
        if not message.get("more_body"):
            return bytes(body)


def replay_body(body: bytes, receive: Any) -> Any:
    """`receive` for a body that has been read already."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> dict:
        return waiting.pop() if waiting else await receive()

    return again
