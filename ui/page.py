"""The whole page: header and tabs, and how it is launched."""

from __future__ import annotations

import gradio as gr
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from lightreasoner.settings import ASSETS, Settings
from ui.datasets_tab import build_datasets
from ui.downloads import download_route
from ui.evaluate_tab import build_evaluate
from ui.finetune_tab import build_finetune
from ui.inspect_tab import build_inspect
from ui.jobs_tab import build_header, build_jobs
from ui.studio import Studio
from ui.theme import page_css, theme

#: Name in the address → (title, what lays it out), in the order of the tab bar.
TABS = {
    "inspect": ("Inspect", build_inspect),
    "datasets": ("Datasets", build_datasets),
    "finetune": ("Fine-tune", build_finetune),
    "evaluate": ("Evaluate", build_evaluate),
    "jobs": ("Jobs", build_jobs),
}
#: Of the workspace; nothing in them is ever handed out as a file of Gradio's.
PRIVATE_FOLDERS = ("traces", "runs", "jobs", "accelerator", "problems", "downloads", "kept")


def build(studio: Studio) -> gr.Blocks:
    with gr.Blocks(title="LightReasoner Studio", analytics_enabled=False, fill_width=True) as page:
        build_header(studio)
        with gr.Tabs(elem_id="lr-tabs", overflow_behavior="wrap"):  # address.js selects one and notes which is
            for name, (title, build_tab) in TABS.items():
                with gr.Tab(title, id=name, elem_id=f"lr-tab-{name}"):
                    build_tab(studio)
    page.queue(max_size=64, api_open=True)
    return page


def launch_options(settings: Settings) -> dict:
    """What launch() needs for this page to look right and to let nothing out."""
    address = (ASSETS / "js" / "address.js").read_text(encoding="utf-8")
    return {
        "theme": theme(),
        "css": page_css(),
        "head": f"<script>{address}</script>",
        "max_file_size": f"{settings.max_upload_mb}mb",
        # not the whole workspace: uploads lie in it too, and Gradio would refuse to hand a blocked one to its handler
        "blocked_paths": [str(settings.workspace / name) for name in PRIVATE_FOLDERS],
        "footer_links": [],
        "run_history": False,
        "ssr_mode": False,
        "app_kwargs": {"openapi_url": None, "routes": [health_route(), download_route(settings)]},
    }


def health_route() -> Route:
    """GET healthz: "ok" as soon as the server answers, for whatever watches over it. It says nothing else."""

    async def healthz(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})

    return Route("/healthz", healthz)
