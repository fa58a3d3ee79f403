"""Grading: final answers are extracted from many ways of writing, and compared in the benchmark's form."""

from __future__ import annotations

import threading
from fractions import Fraction

import pytest

from lightreasoner.grading.grading import answer_form, grade
from lightreasoner.grading.numbers import to_number

RIGHT = [
    # GSM8K, SVAMP, ASDiv: a number
    ("12 - 5 = 7.\nThe answer is 7.", "7"),
    ("so 5*3=15.\nThe answer is $1,234.", "1234"),
    ("#### 5,000", "5000"),
    ("The answer is 5 apples.", "5"),
    ("The answer is 5 + 6 = 11.", "11"),  # not the first number of the sum
    ("So the answer is 20 - 5 = 15 apples.", "15"),
    (r"The answer is $2 \times 9 = 18$.", "18"),
    ("The answer is 15 because 20 - 6 = 14.", "15"),
    ("The answer is 12.5 apples. Check: 3 * 5 = 15", "12.5"),
    ("The final answer is 12%.", "12"),
    ("The answer is **18**.", "18"),
    ("The answer is: 18\n\nNext problem: there are 3 cats", "18"),
    ("I have 3 and then 4", "4"),
    ("It is 3/4 of it", "0.75"),
    ("answer is 2.", "2.0"),
    (r"\boxed{\$18.00}", "18"),
    (r"\boxed{\text{16 apples}}", "16"),
    (r"\boxed{16 \text{ cm}}", "16"),
    (r"\boxed{1{,}000}", "1000"),
    (r"\boxed{50^\circ}", "50"),
    # MMLU-STEM: a letter
    ("The answer is (B).", "B"),
    ("The answer is option C.", "C"),
    ("A cat is B. The correct choice is **C**.", "C"),
    (r"I think \boxed{\text{C}}", "C"),
    ("Answer: D", "D"),
    ("It must be (A), not so (B) … no: (A)", "A"),
    # Minerva: numbers in science's notation, formulas
    (r"\boxed{8.7 \times 10^8}", "8.7e8"),
    ("The answer is -1/3.", "-1./3"),
    ("0.5978", "0.59785"),
    (r"\boxed{\sqrt{4 \pi G r^2}}", r"\sqrt{4 \pi r^{2} G}"),
    # MATH, OlympiadBench: LaTeX, several values, equations
    (r"\boxed{\dfrac{4}{9}}", r"\frac{4}{9}"),
    (r"\boxed{2(n-1)}", "2n-2"),
    (r"\boxed{n\sqrt{3}}", r"\sqrt{3}n"),
    (r"\boxed{69, 84}", "69,84"),
    (r"\boxed{-2, 0, 2}", "-2,0,2"),
    (r"Hence it is $\binom{2n}{n}$.", r"\binom{2n}{n}"),
    (r"\boxed{x+1=f(x)}", "f(x)=x+1"),
    (r"\boxed{0.1}", r"\frac{1}{10}"),
]
WRONG = [
    ("The answer is 1201566", "1201565"),  # whole numbers are exact, however large
    ("The answer is 8.", "7"),
    ("The answer is (C).", "B"),
    (r"\boxed{6984}", "69,84"),  # two values are no thousands
    (r"\boxed{2n-1}", "2n-2"),
    (r"\boxed{2n-2}", "2"),  # was right once: the first number in it was taken
    (r"The sum is 7, so \boxed{8}", "7"),  # what stands in the box counts
    ("The answer is 0.34", "0.3333"),
]


@pytest.mark.parametrize(("response", "answer"), RIGHT)
def test_right_answers_are_right(response, answer):
    result = grade(response, answer)
    assert result.right, result


@pytest.mark.parametrize(("response", "answer"), WRONG)
def test_wrong_answers_are_wrong(response, answer):
    result = grade(response, answer)
    assert not result.right
    assert result.extracted is not None


@pytest.mark.parametrize(("response", "answer"), [("", "3"), ("no idea", "3"), ("no idea", "B"), ("", r"\frac{x}{2}")])
def test_no_answer_is_a_failed_extraction_not_a_wrong_answer(response, answer):
    assert grade(response, answer).extracted is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234.50", Fraction(2469, 2)),
        ("-3/4", Fraction(-3, 4)),
        (r"-\frac{1}{2}", Fraction(-1, 2)),
        ("8.7e8", Fraction(870_000_000)),
        ("−1./3", Fraction(-1, 3)),
        (".5", Fraction(1, 2)),
        ("69,84", None),
        ("1,23", None),
        ("1/0", None),
        ("1e99999", None),
        ("9" * 200, None),
        ("", None),
        ("x", None),
    ],
)
def test_numbers_are_read_exactly(text, value):
    assert to_number(text) == value


def test_the_known_answer_decides_the_form():
    assert [answer_form(a) for a in ("B", "(C)", "12", "1,000", "x", r"\frac{1}{2}")] == [
        *("choice", "choice", "number", "number", "math", "number")
    ]


@pytest.mark.parametrize(
    "response", [r"\boxed{" + "(" * 250 + "x}", r"\boxed{\frac{x}{}}", r"\boxed{x" + "^{9}" * 60 + "}"]
)
def test_what_no_parser_can_read_is_wrong_and_breaks_nothing(response):
    assert not grade(response, "x+1").right


def test_a_thread_can_judge_too():
    """math-verify's own timeouts raise outside the main thread, which made every answer wrong there."""
    grades = []
    thread = threading.Thread(target=lambda: grades.append(grade(r"\boxed{2(n-1)}", "2n-2")))
    thread.start()
    thread.join()
    assert grades[0].right
