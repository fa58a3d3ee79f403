"""The whole page: header, tabs, routes, and the options of its launch."""

import os
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from lightreasoner.settings import Settings
from ui.access.actions import OWNERS_ONLY, checked_events, require_checks
from ui.access.gate import gated
from ui.access.messages import MessageMiddleware
from ui.access.middleware import MAX_JSON_BYTES, AccessMiddleware
from ui.access.sign_in import SignIn
from ui.access.welcome import belongs_to_owner, welcome
from ui.compat.gradio import Page, formulas_script
from ui.components.downloads import download_route
from ui.datasets.tab import build_datasets
from ui.evaluate.tab import build_evaluate
from ui.experiments.tab import build_experiments
from ui.finetune.tab import build_finetune
from ui.html_templates import render
from ui.inspect.tab import build_inspect
from ui.jobs.tab import build_header, build_jobs
from ui.scripts import address, engine_constants, modules_of, scripts_route
from ui.studio import Studio
from ui.theme import page_css, theme

#: Name in the address → (title, function that lays out the tab), in the order of the tab bar.
TABS = {
    "inspect": ("Inspect", build_inspect),
    "datasets": ("Datasets", build_datasets),
    "finetune": ("Fine-tune", build_finetune),
    "evaluate": ("Evaluate", build_evaluate),
    "improve": ("Improve", build_experiments),
    "jobs": ("Jobs", build_jobs),
}
FOR_VISITORS = ("inspect",)  # tabs that visitors of a public server use
#: Folders of the workspace from which Gradio must never serve files.
PRIVATE_FOLDERS = ("traces", "runs", "jobs", "accelerator", "problems", "downloads", "kept")


def build(studio: Studio) -> gr.Blocks:
    public = studio.settings.public
    uploads = (600, 3600) if public else None  # seconds between looks at the uploads, and their maximum age
    with Page(title="LightReasoner Studio", analytics_enabled=False, fill_width=True, delete_cache=uploads) as page:
        build_header(studio)
        if public:
            welcome(studio.settings)
        with gr.Tabs(elem_id="lr-tabs", overflow_behavior="wrap"):  # address.js keeps the selected one in the address
            for name, (title, build_tab) in TABS.items():
                with gr.Tab(title, id=name, elem_id=f"lr-tab-{name}"):
                    gr.HTML(render("tab_heading", title=title), elem_classes=["lr-tab-heading"])
                    if public and name not in FOR_VISITORS:
                        belongs_to_owner(studio.settings, title)
                        with gr.Column(elem_classes=[OWNERS_ONLY]):
                            build_tab(studio)
                    else:
                        build_tab(studio)
    if public:
        checked_events(page, studio.settings)
        require_checks(page)
    page.queue(max_size=64, api_open=True)
    return page


def launch_options(settings: Settings, listening: str = "127.0.0.1") -> dict:
    """Arguments of launch(): theme, scripts, limits and protection of files. listening: the address or name that the
    server listens on. Raises UserError for settings that cannot be read."""
    return {
        "theme": theme(),
        "css": page_css(settings.public),
        "head": page_head(settings),
        "max_file_size": f"{settings.max_upload_mb}mb",
        # not the whole workspace: uploads are in it, and Gradio would not pass blocked ones to their handlers
        "blocked_paths": [str(settings.workspace / name) for name in PRIVATE_FOLDERS],
        "footer_links": [],
        "run_history": False,
        "ssr_mode": False,
        # Gradio keeps something of every page ever opened; open pages poll, which keeps them among the newest
        "state_session_capacity": 400,
        "app_kwargs": {"openapi_url": None, "lifespan": gated(settings, listening), **server_parts(settings)},
    }


def server_parts(settings: Settings) -> dict:
    """Our own routes and the middleware that reads messages; on a public server also the sign-in and the middleware
    that knows users."""
    routes = [health_route(), scripts_route(), download_route(settings)]
    if not settings.public:
        messages = Middleware(MessageMiddleware, most=settings.max_upload_mb * 1_000_000)
        return {"routes": routes, "middleware": [messages]}
    sign_in = SignIn(settings)
    uploads = Path(os.environ.get("GRADIO_TEMP_DIR") or settings.workspace / "uploads")
    middleware = Middleware(AccessMiddleware, settings=settings, sign_in=sign_in, uploads=uploads)
    messages = Middleware(MessageMiddleware, most=MAX_JSON_BYTES)
    return {"routes": [*routes, *sign_in.routes()], "middleware": [middleware, messages]}


def page_head(settings: Settings) -> str:
    """Our part of the page's head: what the engine tells the scripts, and those that the page needs at once."""
    names = ["shared/start.js", "shared/address.js", "shared/dropdowns.js"]
    preload = [name for start in (*names, "inspect/mount.js") for name, _ in modules_of(start)]
    return render(
        "head",
        constants=engine_constants(settings.public) | {"formulas": formulas_script()},
        preload=[address(name) for name in dict.fromkeys(preload)],
        scripts=[address(name) for name in names],
    )


def health_route() -> Route:
    """GET /healthz: "ok" as soon as the server responds, for monitoring."""

    async def healthz(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})

    return Route("/healthz", healthz)
