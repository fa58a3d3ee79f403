"""Chemical formulas as text: H_2O, H₂O and \\ce{H2O} are the same, CO and CO_2 are not."""

import re

from lightreasoner.grading.notation import in_ascii, without_style

_ELEMENTS = (
    "A[cglmrstu]|B[aehikr]?|C[adeflmnorsu]?|D[bsy]|E[rsu]|F[elmr]?|G[ade]|H[efgos]?|I[nr]?|Kr?|L[airuv]|M[cdgnot]|N[abdehiop]?|O[gs]?"
    "|P[abdmortu]?|R[abefghnu]|S[bcegimnr]?|T[abcehilms]|U|V|W|Xe|Yb?|Z[nr]"
)
_FORMULA = re.compile(rf"\d{{0,3}}(?:(?:{_ELEMENTS})\d{{0,3}}|\(|\)\d{{0,3}}|·\d?){{1,40}}(?:\^\d?[+-])?")


def chemical(text: str) -> str | None:
    """A chemical formula with a digit in it, in one spelling; None for any other text."""
    bare = re.sub(r"\\ce\s*\{([^{}]*)\}", r"\1", text.strip().strip("$").strip())
    bare = re.sub(r"[\s_{}]", "", without_style(in_ascii(bare)))
    return bare if _FORMULA.fullmatch(bare) else None


def same_chemical(found: str, answer: str) -> bool | None:
    """None where one is no chemical formula, or none has a digit or a small letter: AB and CO may be lengths."""
    one, other = chemical(found), chemical(answer)
    if one is None or other is None or not re.search(r"[A-Z]", other) or not re.search(r"\d", one + other):
        return None
    return one == other
