"""The web app's entry point: reads the settings, builds the page and launches the server."""

import argparse
import gc
import os
import signal
import sys
import threading

# Read by the libraries at import time. Without telemetry, only requested models and datasets cause network traffic.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def options() -> argparse.Namespace:
    from lightreasoner.cli.main import Parser
    from lightreasoner.serving.listen_address import port_number

    parser = Parser(prog="app.py", description="Explore expert–amateur divergence in a browser.")
    host = os.environ.get("GRADIO_SERVER_NAME") or ("0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1")
    port = os.environ.get("GRADIO_SERVER_PORT") or "7860"
    parser.add_argument("--host", default=host, help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=port_number, default=port, help="port to listen on (default %(default)s)")
    parser.add_argument(
        "--no-preload", action="store_true", help="load the bundled pair at its first use, not at startup"
    )
    return parser.parse_args()


def preload(studio) -> None:
    """Load the default pair, so that the first trace starts at once, and then make the imports of the jobs."""
    from lightreasoner.jobs.warm_worker import WarmWorker, worth_it
    from lightreasoner.models.pairs import load_pair, presets

    first = presets()[0]
    load_pair(first.expert, first.amateur, studio.models, name=first.name)
    if worth_it(studio.settings) and list(studio.jobs.backends) == ["local"]:
        studio.jobs.backends["local"].warm = WarmWorker("lightreasoner.cli.warm_worker")


def settings_and_archive(args: argparse.Namespace) -> tuple:
    """The settings, and where runs are archived, if anywhere; both from the environment. Raises UserError."""
    from lightreasoner.serving.archive_backends import TOKEN_VARIABLE, archive_backend
    from lightreasoner.serving.listen_address import check_free
    from lightreasoner.serving.zerogpu import prepare
    from lightreasoner.settings import from_environment
    from lightreasoner.storage.atomic import check_writable

    check_free(args.host, args.port)
    settings = prepare(from_environment())
    check_writable(settings.workspace)
    token = os.environ.pop("LIGHTREASONER_KEEP_TOKEN", "")  # the former name; removed, so that no job inherits it
    return settings, archive_backend(settings, os.environ.pop(TOKEN_VARIABLE, token))


def build_page(settings, archive, host: str) -> tuple:
    """(the page, its studio, options of its launch). Raises UserError."""
    os.environ.pop("GRADIO_SERVER_NAME", None)  # Gradio binds it as an IPv4 address, to see whether the port is free
    os.environ.setdefault("GRADIO_TEMP_DIR", str(settings.workspace / "uploads"))
    os.environ["FORWARDED_ALLOW_IPS"] = ""  # the gate reads what proxies say; uvicorn believes what a client made up
    from lightreasoner.serving.archive import RunArchiver
    from ui.page import build, launch_options
    from ui.studio import Studio

    launching = launch_options(settings, host)
    studio = Studio(settings, archiver=RunArchiver(settings, archive) if archive else None)
    page = build(studio)
    gc.collect()
    gc.freeze()  # a collection walks through what was imported, for a quarter of a second; none of it is ever garbage
    gc.enable()
    return page, studio, launching


def serve(page, studio, host: str, port: int, launching: dict, interrupt) -> None:
    """Open the server and wait until it is stopped. interrupt: the handler of Ctrl+C from then on."""
    from lightreasoner.serving.listen_address import local_url
    from ui.access.gate import require_gate

    address = {"server_name": host, "server_port": port}
    try:
        page.launch(**address, **launching, quiet=True, prevent_thread_lock=True)
    except OSError as error:
        raise SystemExit(f"Cannot listen on {host}:{port} ({error}). Try another --port.") from None
    require_gate(page.app)
    studio.jobs.start()
    if studio.archiver:
        studio.archiver.start()
    signal.signal(signal.SIGINT, interrupt)
    print(f"LightReasoner Studio is open at {local_url(host, port)}  (Ctrl+C stops it)", flush=True)
    try:
        page.block_thread()
    finally:
        studio.jobs.close()  # a running job continues
        if studio.archiver:
            studio.archiver.close()


def main() -> None:
    gc.disable()  # until all is imported and laid out: until then collections take a fifth of the time and find nothing
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # a shell's background job ignores Ctrl+C
        # until the server is open: nothing is lost, and an interrupted import ends in a traceback, or not at all
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from lightreasoner.cli.console import show_everything
    from lightreasoner.errors import UserError
    from lightreasoner.serving.listen_address import bracketed

    show_everything()
    args = options()  # before the slow imports, so that --help is quick
    from lightreasoner import threads

    threads.prepare(for_page=True)
    host = bracketed(args.host)
    try:
        settings, archive = settings_and_archive(args)
        if not settings.public and host not in LOOPBACK:
            print(
                f"Warning: every user who can reach {host}:{args.port} has full control of this server. "
                "Set LIGHTREASONER_PUBLIC=1 to limit what visitors may do.",
                file=sys.stderr,
            )
        page, studio, launching = build_page(settings, archive, args.host)
    except UserError as error:
        raise SystemExit(f"app.py: {error}") from None
    from lightreasoner.serving.zerogpu import on_zerogpu

    if not (args.no_preload or on_zerogpu()):
        threading.Thread(target=preload, args=(studio,), daemon=True).start()
    serve(page, studio, host, args.port, launching, usual)


if __name__ == "__main__":
    main()
