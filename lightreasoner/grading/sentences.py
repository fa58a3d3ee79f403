"""Reads running text: its first sentence, with its formulas set apart, without Markdown and leading words."""

import re

from lightreasoner.grading.notation import grouped, in_ascii

#: The end of a stated answer, before reasons or the next sentence.
BEYOND = re.compile(
    r"(?<!\bRs)(?<!\bMrs)(?<!\bMr)(?<!\bDr)(?<!\bNo)(?<!approx)\.\s|\.$|!(?:\s(?!\s*[-=+*/×÷<>])|$)|\?(?:\s|$)|;(?![^()\[\]\n]{0,80}[)\]])|\n|\s—\s|,?\s*\b(?:because"
    r"|since|so that|which|not|where|when"
    r"|whereas|due to|therefore|thus|hence|so|as|i\.e|e\.g|that is|namely)\b|\s\((?=[^()]*(?:=|%|[a-z]{3}))",
    re.IGNORECASE,
)
#: “Not” where it begins what is said of the answer: la respuesta no es 36, 答案不是36.
NOT = r"(?:no es|n'est pas|nicht|não é|non è|не|nie|inte|niet|ikke|不是|并非|並非|不为)(?![a-zа-яà-ÿ])\s*"
FORMULA = re.compile(
    r"\$\$(?P<a>.{1,600}?)\$\$|\\\[(?P<b>.{1,600}?)\\\]|\\\((?P<c>.{1,600}?)\\\)|(?<![\\$])\$(?P<d>[^\s$](?:[^$\n]{0,600}?[^\s$\\])?)\$(?!\d)",
    re.DOTALL,
)


def unmarked(text: str) -> str:
    """Without Markdown, and without a list's dash: in a new line, “- 18 eggs” is no negative number."""
    text = re.sub(r"^\s*\n\s*(?:[-*•–—‣◦]\s+|1[.)]\s+(?=\S))", "", text)
    text = grouped(text)
    text = re.sub(r"(\d)\s*\$\s*(\\[dt]?frac[^$]*)\$", r"$\1\2$", text)
    text = re.sub(r"(?<![\w_])_(?=\S)([^_\n]{1,60})(?<=\S)_(?!\w)", r"\1", text)
    text = re.sub(r"(?<!\w)(?<!\*\*)([a-zA-Z])\*\*(?=\d)", r"\1^", text)  # x**2
    text = re.sub(
        r"(?<![\d)])\*\*|\*\*(?![-+]?\(?[-+]?\d)|__|`|(?<![\w*\\])\*(?=\S)|(?<=[\w.%])\*(?![\w*\s(])", "", text
    ).strip()
    return re.sub(r"^>\s+|^#+\s*", "", text)


def formula_of(found: re.Match) -> str:
    return next(part for part in found.groups() if part is not None)


def with_masks(text: str) -> tuple[str, list[str]]:
    """The text with ⟦n⟧ for its formulas, and the formulas. Amounts of money ($5 and $6) are none."""
    formulas: list[str] = []

    def mask(found: re.Match) -> str:
        inner = formula_of(found)
        if found["d"] is not None and (
            re.search(r"[a-zA-Z]{2,} [a-zA-Z]{2,}", re.sub(r"\\[a-zA-Z]+\s*\{[^{}]*\}", "", inner))
        ):
            return found.group()
        formulas.append(inner.strip())
        return f"⟦{len(formulas) - 1}⟧"

    return FORMULA.sub(mask, text), formulas


def unmask(text: str, formulas: list[str]) -> str:
    return re.sub(r"⟦(\d+)⟧", lambda found: formulas[int(found.group(1))], text)


def first_sentence(text: str) -> tuple[str, list[str]]:
    """The first sentence, its formulas masked as ⟦n⟧, and the formulas."""
    masked, formulas = with_masks(in_ascii(text))
    masked = re.sub(r"^(?:(?:so|therefore|thus|hence|then|and)\b,?\s*)+", "", masked.strip(), flags=re.IGNORECASE)
    if BEYOND.match(masked) or re.match(NOT, masked, re.IGNORECASE):  # it begins with a reason, or with “not”
        return "", formulas
    return next((part for part in BEYOND.split(masked) if part and re.search(r"\w|⟦|[√π∞]", part)), ""), formulas


def without_lead(text: str) -> str:
    """Without words that lead to a value: “that we have approximately”, “I think it is”, “x =”."""
    return re.sub(
        r"^(?:(?:that|simply|just|clearly|therefore|thus|i (?:think|believe)|it(?:'s| is)|equal to|equals?|given by"
        r"|a total of"
        r"|approximately|about|around|roughly|exactly|is|be|:)\s+)+",
        "",
        text.strip(),
        flags=re.IGNORECASE,
    )


def comma_decimals(text: str) -> str:
    """2,5 → 2.5 and 1.234 → 1,234 in a language that writes decimals with a comma."""
    return re.sub(
        r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+|\d+)(,\d+)?(?![\d.,]*\d)",
        lambda found: found[1].replace(".", "") + (found[2] or "").replace(",", "."),
        text,
    )
