"""Verdicts on answers of the kinds that public reports about graders name, in both directions.

Each entry is (response, reference answer). The reports that an example was found in stand beside it: Math-Verify,
lm-evaluation-harness, inspect_ai and others, by the number of the issue.
"""

from __future__ import annotations

import threading
import time

import psutil
import pytest

from lightreasoner.grading import symbolic
from lightreasoner.grading.grading import grade

RIGHT = {
    "a formula is one value": [
        (r"The probability is $\frac{3}{8}$.", "3/8"),
        (r"The answer is $\frac{3}{8}$.", "0.375"),
        (r"So the answer is \(\dfrac{7}{2}\).", "3.5"),
        (r"The final answer is \[\frac{15}{4}\]", "15/4"),
        (r"Thus the area is $16$ square units.", "16"),
        (r"The answer is $2^{10}$.", "1024"),
        (r"The answer is 2^10.", "1024"),
        (r"The answer is $3 \cdot 4 = 12$.", "12"),
        (r"The answer is \(x = 7\).", "7"),
        (r"\boxed{\sqrt{16}}", "4"),
        (r"The answer is $2\sqrt{3}$.", r"2\sqrt{3}"),
        (r"The answer is 2√3.", r"2\sqrt{3}"),
        (r"The answer is sqrt(3)/2.", r"\frac{\sqrt{3}}{2}"),
        (r"\boxed{\frac{3\sqrt{3}}{2}}", "2.598"),
        (r"\boxed{4\pi \text{ cm}^2}", r"4\pi"),
        (r"\boxed{\frac12}", "0.5"),
        (r"\boxed{12x+5}", "5+12x"),
        (r"\boxed{5!}", "120"),
        (r"So $f(x) = 3x$, and the value we need is $f(2) = 6$.", "6"),
        (r"The answer is $5 + 6$.", "11"),
    ],
    "powers of ten": [
        (r"\boxed{4.5 \times 10^{33}}", "4.5e33"),
        (r"Final Answer: The final answer is $8.7 \times 10^8$. I hope it is correct.", "8.7e8"),
        (r"The answer is 8.7 x 10^8 m/s.", "8.7e8"),
        ("The answer is 8.7 × 10⁸.", "8.7e8"),
        (r"\boxed{6.02 \cdot 10^{23}}", "6.02e23"),
        (r"\boxed{10^{-3}}", "0.001"),
        ("The answer is 1e-3.", "0.001"),
        ("The answer is 3 million dollars.", "3000000"),
        (r"The answer is $1.5$ million.", "1500000"),
        (r"\boxed{45 \times 10^{32}}", r"4.5 \times 10^{33}"),
        ("The answer is 3.2*10^5.", "320000"),
        ("The answer is 8.7E+08", "8.7e8"),
        (r"\boxed{2.0 \times 10^{-7} \mathrm{~m}}", "2e-7"),
    ],
    "the model goes on after its answer": [
        ("The final answer is 73. Check: 70 + 3 = 73 and 437 + 468 = 905.", "73"),
        ("She has 18 eggs left.\nCheck: 18 + 2 = 20.", "18"),
        ("#### 18\n\nQuestion: Tom has 5 cats.\nAnswer: 9\n#### 9", "18"),  # sglang 29933
        ("The answer is 18.\n\nQ: Tom has 5 cats. How many legs?\nA: The answer is 20.", "18"),
        ("The answer is 18.\n\n**Problem 2:** Tom has 5 cats.\nThe answer is 20.", "18"),
        (
            r"So \boxed{18}.<|im_end|>" "\n<|im_start|>user\nNext?<|im_end|>\n<|im_start|>assistant\n" r"\boxed{20}",
            "18",
        ),
        ("3 + 4 = 7\n\nQuestion: What is 4 + 8?\nAnswer: 12", "7"),
        ("The answer is 7. Let me check: 3 + 5 = 8, so that was wrong. The answer is 8.", "8"),
        (r"First \boxed{5}. That is wrong; the answer is \boxed{7}.", "7"),  # tinker-cookbook 903
        ("<think>3*8=24, so the answer is 24? No.</think> The answer is 72.", "72"),  # sglang-jax 1409
        ("The answer is B.\n\nQuestion: Next one?\nAnswer: C", "B"),
        ("The answer is 12.5 apples\n\nHuman: thank you 5 times", "12.5"),
        ("#### Step 1\nAdd 3 and 4.\n#### Answer\n#### 7", "7"),
        ("So there are 18.\n\nLet me verify: 18 - 5 = 13.", "18"),
        ("The answer is 40.</s> [INST] what is 7? [/INST] 7", "40"),
    ],
    "Markdown": [
        ("**Answer:**\n- 18 eggs", "18"),
        ("**Answer:** 18", "18"),
        ("**Final Answer**\n\n18", "18"),
        ("### Answer\n18 apples", "18"),
        ("**Answer**: **-18**", "-18"),
        ("Answer:\n\n* 18 eggs in 3 boxes", "18"),
        ("1. She has 3 eggs.\n2. She buys 15.\n\nSo she has **18** eggs after 2 days.", "18"),
        ("The answer is `18`.", "18"),
        ("**The answer is 18.**", "18"),
        ("- 3 eggs\n- 15 eggs\n- 18 eggs", "18"),
        ("Answer: -18", "-18"),
        ("The answer is **$18**.", "18"),
        ("> **Answer: 18**", "18"),
        ("Total = 3 + 15\n= **18**", "18"),
        ("Therefore, pages 10-12", "12"),
    ],
    "per cent, thousands, mixed numbers, units": [
        ("The answer is 12%.", "0.12"),
        ("The answer is 12%.", "12"),
        (r"\boxed{25\%}", r"\frac{1}{4}"),
        (r"\boxed{\frac{1}{4}}", r"25\%"),
        ("The answer is 25 percent.", "25%"),
        (r"\boxed{28}", r"28\%"),  # Math-Verify 67
        ("The answer is 50 per cent.", "1/2"),
        ("The answer is 1 234 567.", "1234567"),
        ("The answer is 1\u202f234.", "1234"),
        ("The answer is 1\u00a0234 m.", "1234"),
        (r"\boxed{1\,234}", "1234"),
        (r"\boxed{12{,}345{,}678}", "12345678"),
        ("The answer is 1,00,000.", "100000"),
        ("The answer is 12'345.", "12345"),
        ("The answer is 2 1/2 hours.", "2.5"),
        ("The answer is 2½.", "2.5"),
        (r"\boxed{2\frac{1}{2}}", "2.5"),  # Math-Verify 34
        (r"\boxed{1\frac14}", "5/4"),
        ("The answer is -1 1/4.", "-1.25"),
        ("The answer is 5.", "5 apples"),
        ("The answer is 16 cm.", r"16 \text{ cm}"),
        (r"\boxed{16}", "16 square feet"),
        ("The answer is $18.", r"\$18.00"),
        (r"\boxed{18 \text{ dollars}}", "$18"),
        ("The answer is 500 cm.", "5 m"),
        (r"\boxed{90^\circ}", "90°"),
        (r"\boxed{5\text{ km/h}}", "5"),
        ("The answer is 60 mph.", "60"),
        ("The answer is Rs. 50.", "50"),
        (r"\boxed{082}", "82"),  # ds4 319
        ("The answer is eighteen.", "18"),
        ("The answer is one hundred and five dollars.", "105"),
        ("The answer is approximately 3.14.", "3.14"),
        (r"The final answer is: $\$70{,}000$.", "70000"),
        ("The answer is 18!", "18"),
    ],
    "several values": [
        ("The solutions are $x = 3$ and $x = 5$.", "3, 5"),
        (r"\boxed{5, 3}", "3, 5"),
        (r"\boxed{5 \text{ and } 3}", "3,5"),
        (r"\boxed{x = 3 \text{ or } x = 5}", "3, 5"),
        (r"\boxed{\{5, 3\}}", r"\{3, 5\}"),
        (r"The solutions are \boxed{3} and \boxed{5}.", "3, 5"),
        ("The answer is 3 and 5.", "3, 5"),
        ("The answers are 5 and 3.", "3, 5"),
        (r"\boxed{3, -3}", r"\pm 3"),
        (r"\boxed{\pm 3}", "-3, 3"),
        (r"\boxed{1 \pm \sqrt{2}}", r"1+\sqrt{2}, 1-\sqrt{2}"),
        (r"\boxed{(3, 5)}", "(3,5)"),
        (r"\boxed{\left( 3, \frac{\pi}{2} \right)}", r"(3, \frac{\pi}{2})"),  # Qwen2.5-Math 29
        (r"\boxed{(1,2), (3,4)}", "(3,4),(1,2)"),
        (r"\boxed{x = 3, y = 5}", "(3,5)"),
        (r"\boxed{19, 46, \text{ and } 82}", r"19, 46, \text{ and } 82"),
        (r"\boxed{\frac{1}{2}, 4}", "4, 0.5"),
        (r"\boxed{x < 3}", r"(-\infty, 3)"),  # Math-Verify 71
        (r"\boxed{[2, 5)}", "[2,5)"),
        (r"\boxed{1, 2, \ldots, n}", r"1,2,\ldots,n"),
        ("The roots are 2, 3, and 7.", "7, 3, 2"),
        (r"\boxed{A, C}", "A, C"),
    ],
    "options": [
        ("The correct answer is d.", "D"),  # OPD-V 2
        ("Answer: I think it is C", "C"),  # ds4 319
        ("Answer: It is not B, the answer is D", "D"),  # ds4 321
        ("Answer: rules out C, leaving D", "D"),  # ds4 321
        ("Answer: D, not B", "D"),
        ("The answer is not A but C.", "C"),
        ("I considered (A), but it is incorrect. Final answer: D.", "D"),  # OPD-V 2
        (r"\boxed{\textbf{(C)}}", "C"),
        (r"\boxed{\textbf{(C) } 42}", "C"),
        (r"\boxed{\text{E: a score}}", "E"),  # NeMo Gym 1844
        (r"The answer is $\textbf{B}$.", "B"),
        ("Answer: **D**", "D"),
        ("The answer is (b).", "B"),
        ("The answer is option c.", "C"),
        ("The answer is the second option.", "B"),
        ("The correct choice is the fourth one.", "D"),
        ("The answer is C because I computed the integral.", "C"),  # omlx 3668
        ("The answer is B. Note that A is a common distractor.", "B"),  # omlx 3668
        ("ANSWER IS D. A is incorrect.", "D"),
        ("The answer is B because a car moves.", "B"),  # lm-evaluation-harness 4188
        ("I would pick B — a safe choice.", "B"),
        ("d", "D"),
        ("b. 4", "B"),
        ("B) 42", "B"),
        ("Answer seems to be A", "A"),  # openbench 348
        ("The answer is A.", "A"),
        ("The answer is A because it is larger.", "A"),
        ("The answer is I.", "I"),
        ("Option B is correct.", "B"),
        ("Therefore C is the correct answer.", "C"),
        ("The answer is C", r"\text{(C)}"),
        ("答案是B。", "B"),
        ("故选C", "C"),
        ("正确选项是（D）。", "D"),
        ("La respuesta correcta es la (B).", "B"),
        ("Die Antwort ist C.", "C"),
        ("Answer: (A) 5 cats", "A"),
        ("The answer is [C].", "C"),
        ("My answer: 'B'", "B"),
    ],
    "other languages": [
        ("所以答案是18元。验算：3×5=15。", "18"),
        ("答案：18", "18"),
        ("答：一共有18个苹果。", "18"),
        ("因此，最终答案为１８。", "18"),
        ("所以答案是十八。", "18"),
        ("答案是3万元。", "30000"),
        ("所以答案是$\\frac{3}{8}$。", "3/8"),
        ("小明有18个苹果。\n验算：18-3=15。", "18"),
        ("答えは18です。", "18"),
        ("정답은 18입니다.", "18"),
        ("La réponse est 2,5.", "2.5"),
        ("La respuesta es 18 euros.", "18"),
        ("La respuesta final es: 18", "18"),
        ("Die Antwort ist 1.234 Euro.", "1234"),
        ("Die Antwort lautet 2,5 Stunden.", "2.5"),
        ("A resposta é 18.", "18"),
        ("Ответ: 18 яблок. Проверка: 15 + 3 = 18.", "18"),
        ("Ответ: -2,5", "-2.5"),
        ("الإجابة هي ١٨.", "18"),
        ("উত্তর: ১৮", "18"),
        ("คำตอบคือ 18 บาท", "18"),
        ("Đáp án là 18.", "18"),
        ("सही उत्तर 18 है।", "18"),
        ("Jibu ni 18.", "18"),
        ("La risposta è 18.\n\nProblema 2: …\nLa risposta è 20.", "18"),
    ],
    "very small and very large": [
        (r"\boxed{\frac{1}{2^{99}}}", r"\frac{1}{2^{99}}"),
        (r"\boxed{2^{-99}}", r"\frac{1}{2^{99}}"),
        (r"\boxed{\frac{1}{2004!}}", r"\frac{1}{2004!}"),
        (r"\boxed{\frac{2}{2^{100}}}", r"\frac{1}{2^{99}}"),
        (r"\boxed{2 \cdot 2^{1008}}", "2^{1009}"),
        (r"\boxed{1 - \frac{1}{e}}", r"1-e^{-1}"),
        (r"\boxed{6.67 \times 10^{-11}}", "6.67e-11"),
    ],
    "words": [
        ("The answer is Evelyn.", "Evelyn"),
        (r"\boxed{\text{Evelyn}}", "Evelyn"),
        (r"\boxed{\text{even}}", r"\text{Even}"),
        ("The answer is **Mrs. Hilt**.", "Mrs. Hilt"),
        ("The answer is yes.", "Yes"),
        (r"\boxed{\text{Saturday}}", "Saturday"),
        (r"\boxed{2:30}", "2:30"),
        (r"\boxed{1101_2}", "1101_2"),
        (r"\boxed{1101}", "1101_2"),  # lm-evaluation-harness 3785
    ],
}
WRONG = {
    "a formula is one value": [
        (r"The answer is $2\sqrt{3}$.", "2"),
        (r"The answer is $2\sqrt{3}$.", "3"),
        (r"Hence the length is $2\sqrt{3}$.", "3"),
        ("The answer is 2√3.", "2"),
        ("The answer is √2.", "2"),
        ("The answer is 3π.", "3"),
        ("The answer is 3 pi.", "3"),
        (r"The answer is $3\pi$ cm.", "3"),
        ("The answer is 2x + 1.", "2"),
        (r"The answer is $x^2$.", "2"),
        (r"\boxed{4\sqrt{2}}", "4"),
        (r"\boxed{4\sqrt(2)}", "4"),  # Math-Verify 41
        (r"The probability is $\frac{3}{8}$.", "3"),
        (r"The probability is $\frac{3}{8}$.", "8"),
        (r"\boxed{2t}", "2"),
        ("The answer is log 2.", "2"),
        ("The answer is 2^10.", "2"),
        (r"\boxed{\frac{x+2}{7}}", "2/7"),
        ("The answer is 5 + 6.", "5"),
        (r"\boxed{1 - \frac{1}{e}}", r"1+\frac{1}{e}"),  # Math-Verify 14
        ("The answer is 3*x - 1*y + 13 = 0.", "3x+4y+14=0"),  # Math-Verify 60
    ],
    "powers of ten": [
        (r"\boxed{4.5 \times 10^{33}}", "4.5e34"),
        (r"\boxed{4.5 \times 10^{33}}", "4.5"),
        (r"The answer is $8.7 \times 10^8$.", "8.7"),
        ("The answer is 3 million.", "3"),
        (r"\boxed{10^{-3}}", "10"),
        (r"\boxed{2 \times 10^{-9}}", "1e-9"),
    ],
    "the model goes on after its answer": [
        ("#### 18\n\nQuestion: Tom has 5 cats.\n#### 9", "9"),
        ("The answer is 18.\n\nQ: How many legs?\nA: The answer is 20.", "20"),
        (r"\boxed{18}.<|im_end|>" "\n<|im_start|>user\n" r"\boxed{20}", "20"),
        ("She has 18 eggs left.\nCheck: 18 + 2 = 20.", "20"),
        ("The answer is 7. Let me check: 3 + 5 = 8. The answer is 8.", "7"),
        ("<think>The answer is 24.</think> The answer is 72.", "24"),
        (r"So \boxed{5}, or rather \boxed{", "5"),  # marin 9163
        (r"So the answer is 5: \boxed{}", "5"),
    ],
    "Markdown": [
        ("**Answer:**\n- 18 eggs", "-18"),
        ("Answer: -18", "18"),
        ("1. Add.\n2. Subtract.", "2"),
        ("Therefore, pages 10-12", "-12"),
    ],
    "per cent, thousands, mixed numbers, units": [
        ("The answer is 12%.", "1200"),
        ("The answer is 12.", "0.12"),
        (r"\boxed{100\%}", r"1\%"),
        ("The answer is 2 1/2 hours.", "2"),  # Math-Verify 81
        ("The answer is 2 2/3.", "2"),
        ("The answer is 4 10/3.", "10"),
        (r"\boxed{2\frac{1}{2}}", "1"),
        ("The answer is 1 234.", "1"),
        ("The answer is 1 234.", "234"),
        ("The answer is 5 cm.", "5 m"),
        ("The answer is 5 kg.", "5 m"),
        ("The answer is 33%.", "1/3"),
        (r"\boxed{12:00}", "1:00"),  # Math-Verify 14
        ("The answer is 12.5.", "125"),
    ],
    "several values": [
        ("The solutions are $x = 3$ and $x = 5$.", "3, 6"),
        ("The solutions are $x = 3$ and $x = 5$.", "5"),
        (r"\boxed{3}", "3, 5"),
        (r"\boxed{3, 5, 7}", "3, 5"),
        (r"\boxed{3, 3}", "3, 5"),
        (r"\boxed{2021}", r"\pm 2021"),  # Math-Verify 14
        (r"\boxed{\pm 2021}", "2021"),
        (r"\boxed{(5, 3)}", "(3,5)"),
        (r"\boxed{[3, 5]}", "(3,5)"),
        (r"\boxed{21, 36, \text{ and } 82}", r"19, 46, \text{ and } 82"),  # Math-Verify 14
        (r"\boxed{n=1, 2, 3}", "n=2, 3, 4"),  # Math-Verify 14
        (r"\boxed{D = (0, 1.5)}", "D = (0, 1)"),  # Math-Verify 14
        (r"\boxed{1, 3, 5, \ldots, 2n-1}", r"1, 2, \ldots, n"),  # Math-Verify 14
        (r"\boxed{1:4:9:\ldots}", r"1:2:3:\ldots"),  # Math-Verify 14
        (r"\boxed{6984}", "69,84"),
        (
            r"F_n = \boxed{F_n = \sum_{k=0}^{n-2} F_k F_{n-k-2}}",
            r"F_n = \sum_{k=0}^{n-1} F_k F_{n-k-1}",
        ),  # Math-Verify 14
        (r"\boxed{x = 1}", "y = 1"),
    ],
    "options": [
        ("Answer: I think it is C", "I"),
        ("The answer is not A but C.", "A"),
        ("Answer: It is not B, the answer is D", "B"),
        ("ANSWER: None of the above", "A"),  # inspect_ai 2216
        ("ANSWER: Don't know", "D"),  # inspect_ai 2216
        ("ANSWER: I don't know", "I"),
        ("A car is faster.", "A"),
        ("Answer: A car is faster.", "A"),
        ("The answer is A and C.", "A"),
        ("The answer is either B or D.", "B"),
        ("The answer is option c.", "B"),
        ("B is incorrect.", "B"),
        ("Answer seems to be A", "S"),
    ],
    "other languages": [
        ("所以答案是18元。验算：3×5=15。", "15"),
        ("La réponse est 2,5.", "25"),
        ("答案是3万元。", "3"),
        ("Die Antwort ist 1.234 Euro.", "1.234"),
        ("答案是B。", "A"),
        ("不选B，选C", "B"),
    ],
    "very small and very large": [
        (r"\boxed{\frac{1}{2^{98}}}", r"\frac{1}{2^{99}}"),
        (r"\boxed{\frac{1}{2006!}}", r"\frac{1}{2004!}"),  # Math-Verify 14
        (r"\boxed{\frac{1}{3 \cdot 2^{2006}}}", r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}"),  # Math-Verify 14
        (r"\boxed{\frac{1}{6}}", r"\frac{2^{2005}+1}{3 \cdot 2^{2005} \cdot 2}"),
        (r"\boxed{2^{1008}}", "2^{1009}"),
        (r"\boxed{100000000000000000001}", "100000000000000000000"),
        (r"\boxed{\pi \cdot 10^{-20}}", r"2\pi \cdot 10^{-20}"),
        (r"\boxed{3.14159}", r"\pi \cdot 10^{-9}"),
    ],
    "words": [
        ("The answer is Evelyn.", "Briana"),
        ("The answer is no.", "Yes"),
        (r"\boxed{\text{odd}}", r"\text{even}"),
        (r"\boxed{1101_3}", "1101_2"),
    ],
}


def _listed(table: dict) -> list:
    return [pytest.param(*case, id=f"{kind}-{n}") for kind, cases in table.items() for n, case in enumerate(cases)]


@pytest.mark.parametrize(("response", "answer"), _listed(RIGHT))
def test_right(response, answer):
    result = grade(response, answer)
    assert result.right, result


@pytest.mark.parametrize(("response", "answer"), _listed(WRONG))
def test_wrong(response, answer):
    result = grade(response, answer)
    assert not result.right, result


ENDLESS = [  # Math-Verify 63, 65; sympy 24187
    (r"\boxed{\dfrac{5^{5^{5^{5^5}}} - 5}{16}}", "3"),
    (r"\boxed{9^{9^{9^{9}}}}", r"\sqrt{2}"),
    (r"\boxed{((10^{10^{10}})!)!}", "x+1"),
]


@pytest.mark.parametrize("in_thread", [False, True])
def test_endless_evaluation_is_given_up_in_a_job_and_on_the_page(in_thread, monkeypatch):
    """math-verify's limit is an alarm, which a thread has not and which does not interrupt big integers."""
    monkeypatch.setattr(symbolic._worker, "patience", 20)
    symbolic._compared.cache_clear()
    results, start = [], time.monotonic()

    def judge() -> None:
        results.extend(grade(*case).right for case in ENDLESS)
        results.append(grade(r"\boxed{2(n-1)}", "2n-2").right)

    thread = threading.Thread(target=judge)
    thread.start() if in_thread else judge()
    if in_thread:
        thread.join()
    assert results == [False, False, False, True]
    assert time.monotonic() - start < 200  # a hang, not a time


def test_what_takes_too_long_is_given_up_once_and_costs_no_new_process(monkeypatch):
    """Each took 6 to 9 seconds, the next import included; ten such values in one answer took ten times as long."""
    assert symbolic.SECONDS <= 1
    assert grade(r"\boxed{\sqrt{8}}", r"2\sqrt{2}").right
    asked, ask, template = [], symbolic._worker.ask, psutil.Process(symbolic._worker._process.pid)
    monkeypatch.setattr(symbolic._worker, "ask", lambda request: asked.append(request) or ask(request))
    towers = [rf"{n}^{{{n}^{{{n}^{{{n}}}}}}}" for n in range(7, 17)]
    assert not grade(rf"\boxed{{{', '.join(towers)}}}", ", ".join(rf"\sqrt{{{n}}}" for n in range(10))).right
    assert len(asked) == 1
    assert not grade(rf"\boxed{{{', '.join(towers)}}}", ", ".join(rf"\sqrt{{{n}}}" for n in range(10))).right
    assert len(asked) == 1, "it is remembered"
    assert grade(r"\boxed{\sqrt{18}}", r"3\sqrt{2}").right
    assert template.is_running() and len(template.children()) == 1 and template.children()[0].children() == []
    assert grade(rf"\boxed{{{towers[0]}, \sqrt{{2}}}}", rf"\sqrt{{2}}, {towers[0]}").right, "the same text is the same"


def test_memory_of_symbolic_evaluation_is_bounded():
    """A power that fits no memory ends the comparison, not the job."""
    assert not grade(r"\boxed{\sqrt{2} \cdot 7^{7^{9^{3}}}}", r"\sqrt{2}").right
    assert grade(r"\boxed{\sqrt{8}}", r"2\sqrt{2}").right


@pytest.mark.parametrize(
    "part", ["1", "\n", "123 ", "The answer is 5. ", r"\boxed{1}, ", "$1 ", "#### ", "check: ", "一"]
)
@pytest.mark.parametrize("answer", ["5", "B", "1, 2"])
def test_a_long_response_is_judged_in_linear_time(part, answer):
    """Patterns that looked back or ahead without a bound took minutes for 100,000 digits or line breaks."""
    assert grade(part * (50_000 // len(part)), answer).right == grade(part * 40, answer).right
