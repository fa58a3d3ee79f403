"""The component that lists the fine-tuning runs, shows one of them and compares several."""

from __future__ import annotations

from ui.components.html_component import HtmlComponent

INTRO = {
    "title": "No fine-tuning run yet",
    "sentences": [
        "Fine-tuning teaches the expert, through a small LoRA adapter, what sets it apart from the amateur at the "
        "steps of a dataset; no labels are needed.",
        "It starts from a dataset: build one first, then come back, or press Fine-tune there.",
    ],
}


class FinetuneView(HtmlComponent):
    """Value: "" or the JSON document {"open": run id}, which shows that run. The script requests the rest.

    The event `renew` asks the form to list the datasets again, with {"dataset": id} selected, and to set α, β and the
    selector if it names them.
    """

    scripts = (
        "shared/base",
        "shared/job_format",
        "shared/charts",
        "shared/run_list",
        "shared/card",
        "shared/push_form",
        "finetune/line_charts",
        "finetune/run_list",
        "finetune/run",
        "finetune/compare",
        "finetune/mount",
    )
    mount = "mountFinetune(element, props, trigger, watch, server); // 'renew'"
    value_title = "the run to show, as JSON"
