"""KL over the steps of a response, as a figure."""

import math

import pandas as pd
import pytest

from lightreasoner.tracing.figures import NO_STEPS, kl_figure, says


def steps(*kl: float, tuned: float = 0.1) -> pd.DataFrame:
    tokens = [f"t{i}" for i in range(len(kl))]
    return pd.DataFrame({"step": range(len(kl)), "token": tokens, "kl": kl, "tuned_kl": [tuned] * len(kl)})


def test_a_step_is_a_point_with_its_token_and_kl():
    (trace,) = kl_figure(steps(0.25, 2.0), 0.4, tuned=False).data
    assert (list(trace.x), list(trace.y)) == ([0, 1], [0.25, 2.0])
    assert [list(row) for row in trace.customdata] == [["t0", 0.25], ["t1", 2.0]]


def test_a_tuned_expert_is_a_line_of_its_own_with_a_legend():
    found = kl_figure(steps(0.25, 2.0, tuned=0.7), 0.4, tuned=True)
    assert [trace.name for trace in found.data] == ["expert ‖ amateur", "tuned ‖ expert"]
    assert list(found.data[1].y) == [0.7, 0.7] and found.layout.showlegend


def test_what_is_taught_is_a_line_of_its_own():
    found = kl_figure(steps(0.25, 2.0).assign(teaching=[0.1, None]), 0.4, tuned=True)
    assert [trace.meta for trace in found.data] == ["kl", "tuned_kl", "teaching"]
    assert list(found.data[2].y) == [0.1, None] and found.data[2].name == "target ‖ expert"


def test_an_infinite_kl_is_no_point_and_counts_as_above_beta():
    """The amateur gives a token of the expert no probability at all."""
    frame = steps(0.1, math.inf, 0.3)
    assert list(kl_figure(frame, 0.4, tuned=False).data[0].y) == [0.1, None, 0.3]
    assert says(frame, 0.4) == "KL over 3 steps: 1 above β = 0.40; the highest, infinite, at step 1."


@pytest.mark.parametrize("beta, above", [(0.0, 2), (0.25, 1), (2.0, 0)])
def test_the_text_alternative_counts_strictly_above_beta(beta, above):
    assert f"{above} above β = {beta:.2f}" in says(steps(0.25, 2.0), beta)


def test_the_shapes_stand_at_beta_and_beside_the_first_step():
    shapes = {shape.name: shape for shape in kl_figure(steps(0.25), 0.7, tuned=False).layout.shapes}
    assert (shapes["beta"].y0, shapes["beta"].y1, shapes["below-beta"].y0, shapes["below-beta"].y1) == (
        0.7,
        0.7,
        0,
        0.7,
    )
    assert shapes["selected"].x1 < -0.5


def test_markup_in_a_token_is_text():
    """plotly.js reads some HTML in hover labels."""
    frame = steps(0.25).assign(token="<b>&</b>")
    assert kl_figure(frame, 0.4, tuned=False).data[0].customdata[0][0] == "&lt;b&gt;&amp;&lt;/b&gt;"


def test_without_steps_it_is_a_figure_that_the_page_fills():
    found = kl_figure(NO_STEPS, 0.4, tuned=True)
    assert [list(trace.x) for trace in found.data] == [[], [], []]
    assert found.layout.meta["says"].endswith("no step yet.")
    assert found.layout.meta["scales"] == ["root", "linear", "log"]
