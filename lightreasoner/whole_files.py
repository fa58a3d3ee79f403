"""Large files written whole or not at all, as they are made."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lightreasoner.errors import UserError


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the name `path` once everything went well, and is gone otherwise.

    Raises UserError when the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        why = os.strerror(error.errno) if error.errno else error
        raise UserError(f"{path} could not be written: {why}. Free some space or pick another place.") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
