"""The whole page: header and tabs, and how it is launched."""

from __future__ import annotations

import gradio as gr

from lightreasoner.settings import Settings
from ui.inspect_tab import build_inspect
from ui.studio import Studio
from ui.theme import page_css, theme

HEADER = """<div class="lr-header"><h1>LightReasoner Studio</h1>
<p>Where does a stronger language model know more than a weaker one? Token by token.</p></div>"""


def build(studio: Studio) -> gr.Blocks:
    with gr.Blocks(title="LightReasoner Studio", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(HEADER, elem_id="lr-top")
        build_inspect(studio)
    page.queue(max_size=64, api_open=True)
    return page


def launch_options(settings: Settings) -> dict:
    """What launch() needs for this page to look right and to let nothing out."""
    return {
        "theme": theme(),
        "css": page_css(),
        "max_file_size": f"{settings.max_upload_mb}mb",
        # not the whole workspace: uploads lie in it too, and Gradio would refuse to hand a blocked one to its handler
        "blocked_paths": [str(settings.traces)],
        "footer_links": [],
        "run_history": False,
        "ssr_mode": False,
        "app_kwargs": {"openapi_url": None},
    }
