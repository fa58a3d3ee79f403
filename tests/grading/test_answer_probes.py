"""Verdicts on some 900 answers in many notations and languages, in both directions: false accepts and false rejects.

94 of the first 461, 47 of the next 344 and 70 of 423 more were judged wrongly when they were written. They stand in
answer_probes.txt.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lightreasoner.grading.grading import grade


def _read_probes() -> dict[str, list[tuple[str, str, str]]]:
    """(right or wrong, reference answer, response) by kind."""
    kinds, kind = {}, ""
    for line in (Path(__file__).parent / "answer_probes.txt").read_text(encoding="utf-8").split("\n"):
        if line.startswith("## "):
            kind = line[3:]
        elif line.count("\t") == 2:
            kinds.setdefault(kind, []).append(tuple(line.replace("⏎", "\n").split("\t")))
    return kinds


PROBES = _read_probes()


@pytest.mark.parametrize("kind", PROBES)
def test_verdicts(kind):
    judged = [(probe, grade(probe[2], probe[1])) for probe in PROBES[kind]]
    assert len(judged) > 10
    assert [(probe, result.extracted) for probe, result in judged if result.right != (probe[0] == "right")] == []
