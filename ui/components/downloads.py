"""Files to take along: written under an id that nobody can guess, handed out for a while, then deleted.

The path of a file never comes from the page and never reaches it. Whoever has the id may fetch the file.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from lightreasoner.errors import UserError
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import ID_PATTERN, new_id
from ui.access.sign_in import owners_only

KEPT = 15 * 60  # seconds
PATIENCE = 30  # seconds that a visitor waits for another one's file to be written
_ONE_AT_A_TIME = threading.Lock()  # writing a large one takes the disk and a core


def folder_of(settings: Settings) -> Path:
    return settings.workspace / "downloads"


def offer(settings: Settings, name: str, write: Callable[[Path], object]) -> dict:
    """Have `write` write a file; {"url": relative to the page, "name"}. Raises what `write` raises, and UserError."""
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:120] or "dataset"
    clean_up(settings)
    if not _ONE_AT_A_TIME.acquire(timeout=PATIENCE):
        raise UserError("Another file is being written just now; try again in a minute.")
    id = new_id()
    place = folder_of(settings) / id
    try:
        place.mkdir(parents=True)
        write(place / name)
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        raise UserError(f"The file could not be written: {error.strerror}. Free some space and try again.") from None
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    finally:
        _ONE_AT_A_TIME.release()
    return {"url": f"downloads/{id}", "name": name}


def clean_up(settings: Settings) -> None:
    """Delete what was offered long ago."""
    for place in folder_of(settings).glob("*"):
        try:
            if time.time() - place.stat().st_mtime > KEPT:
                shutil.rmtree(place, ignore_errors=True)
        except OSError:
            continue


def download_route(settings: Settings) -> Route:
    """GET downloads/ID: the file of this id, as an attachment."""

    def fetch(request: Request) -> Response:
        id = request.path_params["id"]
        place = folder_of(settings) / id
        found = list(place.iterdir()) if ID_PATTERN.fullmatch(id) and place.is_dir() else []
        if not found:
            return PlainTextResponse("This download is not there any more; ask for it again.", status_code=404)
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        return FileResponse(found[0], media_type="application/octet-stream", filename=found[0].name, headers=headers)

    return Route("/downloads/{id}", owners_only(settings, fetch))
