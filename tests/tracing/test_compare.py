"""Two traces side by side, worked out by hand: what is aligned, where they part, and what was asked differently."""

import pytest

from lightreasoner.errors import UserError
from lightreasoner.tracing import example
from lightreasoner.tracing.compare import align, compare, differences
from lightreasoner.tracing.records import load_record


def test_equal_tokens_belong_together_and_what_differs_pairs_up_in_order():
    found = align(["Let", "'s", " add", " 2", "+", "3"], ["Let", "'s", " take", " 7", "-", "3"])
    assert found.same == ([True, True, False, False, False, True],) * 2
    assert found.partner == ([0, 1, 2, 3, 4, 5],) * 2
    assert found.first == (2, 2)


def test_an_inserted_part_has_no_partner_and_moves_the_rest():
    found = align(["a", " b"], ["a", " new", " words", " b"])
    assert found.partner == ([0, 3], [0, 1, None, 1])
    assert found.first == (None, 1)


def test_what_both_begin_with_belongs_together_although_a_longer_part_of_it_comes_again():
    """The longest part in common was aligned first, so a branch that repeated its beginning differed from the start."""
    found = align(["a", " b", " c", " d"], ["a", " x", " a", " b", " c", " d"])
    assert found.first == (None, 1) and found.partner[0][0] == 0
    assert align(["a", "\n", "b"], ["a", "\n", "c", "\n", "a", "\n", "b"]).partner[0] == [0, 1, 6]


def test_two_tokenizers_are_aligned_by_characters():
    """Two pairs cut the same words into other tokens; by tokens nothing of it would be the same."""
    found = align(["She", " has", " 12", " apples", "."], ["S", "he", " ha", "s", " ", "1", "3", " app", "les", "."])
    assert found.same[0] == [True, True, False, True, True]
    assert found.same[1] == [True, True, True, True, True, True, False, True, True, True]
    assert found.partner[0] == [1, 3, 6, 8, 9]
    assert found.partner[1][:4] == [0, 0, 1, 1] and found.partner[1][6:] == [2, 3, 3, 4]


def test_rows_begin_where_both_have_ended_a_line():
    left = ["a", "\n", "b", " x", ".\n", "c"]
    right = ["a", "\n", "b", " y", " z", ".", "\n", "c"]
    assert align(left, right).rows == [(0, 0), (2, 2), (5, 7)]


@pytest.mark.parametrize("right", [[], ["x"], ["x", "y", ""], ["", "x"]])
def test_any_two_lists_of_tokens_are_aligned(right):
    for a, b in ((["x", "y"], right), (right, ["x", "y"]), (right, right)):
        found = align(a, b)
        assert [len(side) for side in found.same] == [len(a), len(b)]
        for partner, other in zip(found.partner, (b, a), strict=True):
            assert all(p is None or 0 <= p < len(other) for p in partner)
        assert found.rows[0] == (0, 0)


def example_record(**changes) -> dict:
    record = load_record(example.EXAMPLE, example.FOLDER)
    return record | changes


def test_a_branch_names_the_forced_token_and_what_was_asked_differently():
    parent = example_record()
    steps = [step | {"text": " The"} if n == 4 else step for n, step in enumerate(parent["steps"])]
    request = parent["request"] | {"temperature": 0.7, "seed": 3}
    child = example_record(id="b" * 22, parent={"id": parent["id"], "step": 4}, steps=steps, request=request)
    rows = [(row["what"], row["left"], row["right"]) for row in compare(parent, child)["differences"]]
    assert rows == [
        ("Forced token, step 4", parent["steps"][4]["text"], " The"),
        ("Temperature", "0, greedy", "0.7"),
        ("Seed", "–", "3"),
    ]
    assert compare(parent, child)["alignment"]["first"] == (4, 4)


def test_before_and_after_tuning_differ_in_the_tuned_expert():
    after = example_record(lens={"tuned": "a::b", "name": "run 7", "writer": "tuned"})
    assert {row["what"]: row["right"] for row in differences(example_record(), after)} == {
        "Written by": "tuned expert",
        "Tuned expert": "run 7",
    }


def test_traces_of_two_problems_are_refused_in_a_sentence():
    other = example_record(request=example_record()["request"] | {"question": "2 + 2?"})
    with pytest.raises(UserError, match=r"two problems, “Ava was .*” and “2 \+ 2\?”, so nothing can be aligned"):
        compare(example_record(), other)
    with pytest.raises(UserError, match="has no steps"):
        compare(example_record(), example_record(steps=[]))
