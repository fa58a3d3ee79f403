"""The look of Gradio's parts: the viewer's colours, and system fonts only, so that the page downloads none."""

import gradio as gr

from ui.html_templates import asset

BLUE = gr.themes.Color(
    *("#eef6fc", "#d9ebf8", "#b5d8f1", "#85bfe7", "#4fa0d8", "#2583c4"),
    *("#0b62a8", "#0a5490", "#0b4573", "#0d395e", "#09243c"),
)


def theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue=BLUE,
        secondary_hue=BLUE,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"],
    ).set(
        body_background_fill="#eef0f3",
        body_background_fill_dark="#0d1013",
        body_text_color_subdued="#59616b",
        body_text_color_subdued_dark="#a5afba",
        block_background_fill="#ffffff",
        block_background_fill_dark="#14181d",
        block_border_width="0px",
        block_shadow="none",
        block_label_text_color="#3d454e",
        block_label_text_color_dark="#c3cad2",
        block_info_text_color="#59616b",
        block_info_text_color_dark="#a5afba",
        button_primary_background_fill="#0b62a8",
        button_primary_background_fill_hover="#0a5490",
        button_primary_background_fill_dark="#1b73ba",
        button_primary_background_fill_hover_dark="#2079c0",
        button_primary_text_color="#ffffff",
        input_placeholder_color="#6a7480",
        input_placeholder_color_dark="#98a3af",
    )


def page_css(public: bool = False) -> str:
    names = (
        "inspect.css",
        "charts.css",
        "page.css",
        "jobs.css",
        "datasets.css",
        "finetune.css",
        "evaluate.css",
        "experiments.css",
        *(["access.css"] if public else []),
    )
    return "\n".join(asset("css", name) for name in names)
