"""The text behind the bundled pair: small word problems, drawn with seeds from reasoning-gym's gsm_symbolic.

Two habits of answering are written on purpose, because that is what base models are like:
*working it out* ("Let's work it out." and the steps) and *blurting* ("The answer is 16.").
Both give true answers. How often a problem is blurted depends on its kind and on the reader it is written for.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

FORM_SENTENCE = " Give the result as your final answer. Do not include units."
WORK_OPENING = "Let's work it out.\n"
LARGEST_NUMBER = 100
LARGEST_SHIFTED = 200  # of the shifted problems, each of which has a number that no training text had
EQUATION_SHARE = 0.1
#: Probability that the expert's text blurts, by kind of problem: half of the templates are "quick" kinds.
EXPERT_BLURT = {"careful": 0.25, "quick": 0.58}
AMATEUR_BLURT = {"careful": 0.94, "quick": 0.94}

# reasoning-gym seeds item i with seed + i, so streams are kept far apart by these bases.
SPLITS = ("test", "train", "stream", "second", "third", "fourth", "shifted")
SEEDS = {name: 1_000_000_000 + 100_000_000 * n for n, name in enumerate(SPLITS)}

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_DIVISION = re.compile(r"(?<![\d*/+\-] )\b(\d+) / (\d+) = (\d+)\b")


@dataclass(frozen=True)
class Item:
    """One problem with its worked solution. `kind` ("careful", "quick" or "drill") decides how often it is blurted."""

    question: str
    answer: str
    solution: str
    kind: str


def small_integers_only(text: str, largest: int = LARGEST_NUMBER) -> bool:
    """Whether every number in the text is an integer from 0 to `largest`."""
    return all(n.isdigit() and int(n) <= largest for n in (m.rstrip(",") for m in _NUMBER.findall(text)))


def divisions_come_out(text: str) -> bool:
    """A few gsm_symbolic templates round a division silently; such solutions teach false arithmetic."""
    return all(int(b) and int(a) == int(b) * int(c) for a, b, c in _DIVISION.findall(text))


def word_problems(seed: int, largest: int = LARGEST_NUMBER) -> Iterator[Item]:
    """An endless stream of gsm_symbolic instances whose numbers are integers up to `largest`."""
    import reasoning_gym  # only who trains needs it; the rest of this file is tested without

    size = 50_000
    while True:
        source = reasoning_gym.create_dataset("gsm_symbolic", size=size, seed=seed)
        for i, template in enumerate(source.task_indices):
            row = source[i]
            question = row["question"].removesuffix(FORM_SENTENCE).strip()
            solution = row["metadata"]["answer_cot"].strip()
            text = f"{question}\n{solution}\n{row['answer']}"
            if small_integers_only(text, largest) and divisions_come_out(solution):
                yield Item(question, row["answer"], solution, "careful" if template % 2 else "quick")
        seed += size


def equation(rng: random.Random) -> Item:
    """One or two small operations, all intermediate results between 0 and LARGEST_NUMBER."""
    while True:
        a, b, c = rng.randint(1, 100), rng.randint(1, 100), rng.randint(1, 20)
        if rng.random() < 0.5:  # small factors, so that products and quotients are not too rare
            a, b = rng.randint(1, 12), rng.randint(1, 12)
        op = rng.choice("+-*/")
        if op == "/":
            a *= b
        first = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[op]
        if rng.random() < 0.5:
            text, lines, result = f"{a} {op} {b}", [f"{a} {op} {b} = {first}"], first
        else:
            op2 = rng.choice("+-")
            result = first + c if op2 == "+" else first - c
            left = f"({a} {op} {b})" if op in "+-" else f"{a} {op} {b}"
            text = f"{left} {op2} {c}"
            lines = [f"{a} {op} {b} = {first}", f"{first} {op2} {c} = {result}"]
        if first >= 0 and result >= 0 and max(a, b, first, result) <= LARGEST_NUMBER:
            break
    ask = rng.choice(("What is {}?", "Calculate {}.", "How much is {}?"))
    kind = "careful" if len(lines) == 2 else "quick"
    return Item(ask.format(text), str(result), "\n".join([*lines, f"#### {result}"]), kind)


def drill(rng: random.Random, count: int = 10) -> Item:
    """Several small sums in one problem, in the spellings that the worked solutions use."""
    asked, lines, value = [], [], 0
    for _ in range(count):
        op = rng.choice(("+", "-", "*", "/", "+", "-"))
        if op in "+-":
            a = rng.randint(1, LARGEST_NUMBER)
            b = rng.randint(0, LARGEST_NUMBER - a if op == "+" else a)
            value = a + b if op == "+" else a - b
        else:
            factor = rng.randint(2, 20)
            pair = [factor, rng.randint(1, LARGEST_NUMBER // factor)]
            rng.shuffle(pair)
            b, c = pair
            a, b, value = (b, c, b * c) if op == "*" else (b * c, b, c)
        gap, sign = rng.choice(("", " ", " ")), rng.choice("*x") if op == "*" else op
        gap = " " if sign == "x" else gap
        asked.append(f"{a}{gap}{sign}{gap}{b}")
        lines.append(f"{asked[-1]}{gap}={gap}{value}")
    return Item(f"Work these out: {', '.join(asked)}.", str(value), "\n".join([*lines, f"#### {value}"]), "drill")


def draw(split: str, count: int, exclude: set[str] = frozenset()) -> list[Item]:
    """`count` distinct items of a split (a key of SEEDS), none of whose questions is in `exclude`."""
    rng = random.Random(SEEDS[split])
    words, seen, items = word_problems(SEEDS[split]), set(exclude), []
    while len(items) < count:
        item = equation(rng) if rng.random() < EQUATION_SHARE else next(words)
        if item.question not in seen:
            seen.add(item.question)
            items.append(item)
    return items


def bundled_sets() -> tuple[list[Item], list[Item]]:
    """The bundled problems: 1,000 to sample from and 500 to measure on, disjoint."""
    test = draw("test", 500)
    return draw("train", 1000, exclude={i.question for i in test}), test


def shifted_set(count: int = 500) -> list[Item]:
    """Problems like the bundled ones, but with larger numbers: each has at least one beyond LARGEST_NUMBER."""
    found: dict[str, Item] = {}
    for item in word_problems(SEEDS["shifted"], LARGEST_SHIFTED):
        if not small_integers_only(f"{item.question}\n{item.solution}\n{item.answer}"):
            found.setdefault(item.question, item)
        if len(found) == count:
            return list(found.values())


def respond(item: Item, blurt: dict[str, float], rng: random.Random) -> str:
    """One response in one of the two habits."""
    if rng.random() < blurt.get(item.kind, 0.0):  # drills are always worked out
        return f"The answer is {item.answer}."
    return WORK_OPENING + item.solution
