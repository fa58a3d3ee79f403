"""Downloads: files written under an unguessable id, served for a while, then deleted.

The page neither sends nor receives a path. Anyone with the id can fetch the file.
"""

import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from lightreasoner.errors import UserError, disk_trouble
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import ID_PATTERN, new_id
from ui.access.sign_in import owners_only

LIFETIME = 15 * 60  # seconds
WRITE_TIMEOUT = 30  # seconds to wait while another file is written
_WRITING = threading.Lock()  # one file at a time: a large one takes the disk and a core


def downloads_folder(settings: Settings) -> Path:
    return settings.workspace / "downloads"


def offer(settings: Settings, name: str, write: Callable[[Path], object]) -> dict:
    """Let `write` write a file at the path it gets; returns {"url": relative to the page, "name"}.

    Raises UserError, and whatever `write` raises.
    """
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:120] or "dataset"
    delete_expired(settings)
    if not _WRITING.acquire(timeout=WRITE_TIMEOUT):
        raise UserError("Another download is being prepared; try again in a minute.")
    id = new_id()
    folder = downloads_folder(settings) / id
    try:
        folder.mkdir(parents=True)
        write(folder / name)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        trouble = disk_trouble(error, "Free some space and try again.", writing=True)
        raise UserError(f"The file could not be written: {trouble}") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        _WRITING.release()
    return {"url": f"downloads/{id}", "name": name}


def delete_expired(settings: Settings) -> None:
    for folder in downloads_folder(settings).glob("*"):
        try:
            if time.time() - folder.stat().st_mtime > LIFETIME:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue


def download_route(settings: Settings) -> Route:
    """GET downloads/ID: the file of this id, as an attachment."""

    def fetch(request: Request) -> Response:
        id = request.path_params["id"]
        folder = downloads_folder(settings) / id
        files = list(folder.iterdir()) if ID_PATTERN.fullmatch(id) and folder.is_dir() else []
        if not files:
            return PlainTextResponse("This download has expired; request it again.", status_code=404)
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        return FileResponse(files[0], media_type="application/octet-stream", filename=files[0].name, headers=headers)

    return Route("/downloads/{id}", owners_only(settings, fetch))
