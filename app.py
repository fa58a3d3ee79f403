"""The entry point: settings → page → launch. python app.py --help lists the few options."""

from __future__ import annotations

import argparse
import os
import sys
import threading

# Read at import time by the libraries: nothing leaves the machine unless a person asks for a model or a dataset.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


LOOPBACK = ("127.0.0.1", "localhost", "::1")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Explore expert–amateur divergence in a browser.")
    host = os.environ.get("GRADIO_SERVER_NAME") or ("0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1")
    port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    parser.add_argument("--host", default=host, help=f"address to listen on (default {host})")
    parser.add_argument("--port", type=int, default=port, help=f"port to listen on (default {port})")
    parser.add_argument("--no-preload", action="store_true", help="load the bundled pair only when it is run")
    return parser.parse_args()


def preload(studio) -> None:
    """Load the default pair, so that the first run starts at once."""
    from lightreasoner.models.pairs import load_pair, presets

    first = presets()[0]
    load_pair(first.expert, first.amateur, studio.models, name=first.name)


def main() -> None:
    chosen = options()  # before the slow imports, so that --help is quick
    from lightreasoner.errors import UserError
    from lightreasoner.serving.archive import RunArchiver
    from lightreasoner.serving.archive_backends import TOKEN_VARIABLE, archive_backend
    from lightreasoner.serving.zerogpu import on_zerogpu, prepare
    from lightreasoner.settings import from_environment

    try:
        settings = prepare(from_environment())
        kept = archive_backend(settings, os.environ.pop(TOKEN_VARIABLE, ""))  # taken out: no job is to inherit it
    except UserError as error:
        raise SystemExit(f"app.py: {error}") from None
    if not settings.public and chosen.host not in LOOPBACK:
        print(
            f"app.py: everybody who reaches {chosen.host}:{chosen.port} may do everything; "
            "set LIGHTREASONER_PUBLIC=1 where strangers can.",
            file=sys.stderr,
        )
    settings.workspace.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("GRADIO_TEMP_DIR", str(settings.workspace / "uploads"))

    from ui.page import build, launch_options
    from ui.studio import Studio

    studio = Studio(settings, archiver=RunArchiver(settings, kept) if kept else None)
    page = build(studio)
    if not (chosen.no_preload or on_zerogpu()):
        threading.Thread(target=preload, args=(studio,), daemon=True).start()
    where = {"server_name": chosen.host, "server_port": chosen.port}
    try:
        _, url, _ = page.launch(**where, **launch_options(settings), quiet=True, prevent_thread_lock=True)
    except OSError as error:
        raise SystemExit(
            f"app.py: no listening on {chosen.host}:{chosen.port} ({error}). Try another --port."
        ) from None
    studio.jobs.start()
    if studio.archiver:
        studio.archiver.start()
    print(f"LightReasoner Studio is open at {url}  (Ctrl+C ends it)", flush=True)
    try:
        page.block_thread()
    finally:
        studio.jobs.close()  # a job that runs goes on
        if studio.archiver:
            studio.archiver.close()


if __name__ == "__main__":
    main()
