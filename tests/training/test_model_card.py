"""Model cards: valid metadata and harmless Markdown, whatever the texts of the run are."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from lightreasoner.storage.runs import read_run
from lightreasoner.training.model_card import adapter_card
from tests.support.tiny_tuning import make_run


@pytest.mark.parametrize("merged", [False, True])
def test_hostile_texts_stay_data(tmp_path, merged):
    base = 'A: "b" <i>\n---\nlicense: other | {{ 7 * 7 }}'
    about = {"expert": base, "dataset": {"problems": "<script>|"}, "fingerprints": {"expert": "e"}}
    run = read_run(make_run(tmp_path / "run", tmp_path / "data", about=about))
    card = ModelCard(text := adapter_card(run, merged=merged, license="mit"))
    assert (card.data.base_model, card.data.license) == (base, "mit")
    assert card.data.library_name == ("transformers" if merged else "peft")
    assert '\n# A: "b" &lt;i> --- license: other \\| {{ 7 * 7 }}, fine-tuned' in text
    assert "| problems | &lt;script>\\| |" in text and "<script>" not in text
    assert "| held-out loss | 0.8 |" in text
