"""Results of evaluations as a data frame, for a file."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

COUNTS = ("problems", "right", "extraction_failures", "truncations", "mean_length", "tokens_per_second", "seconds")
WHOLE = ("problems", "right", "extraction failures", "truncations", "gained", "lost")


def models_table(models: Sequence[dict[str, Any]], comparisons: Sequence[dict[str, Any]] = ()) -> pd.DataFrame:
    """A row per model, shares in percent, differences to the first model in percentage points.

    models: as in results.json, with a name each. comparisons: {"model": index, "difference", "low", "high", "gained",
    "lost", "p"} of some of them.
    """
    compared = {row["model"]: row for row in comparisons}
    rows = []
    for n, model in enumerate(models):
        low, high = model.get("interval") or (None, None)
        row = {"model": model["name"], "pass@1 in %": percent(model.get("pass_at_1"))}
        row |= {"low in %": percent(low), "high in %": percent(high)}
        row |= {name.replace("_", " "): model.get(name) for name in COUNTS}
        if comparisons:
            other = compared.get(n, {})
            named = {"difference": "difference", "low": "difference low", "high": "difference high"}
            row |= {f"{name} in points": percent(other.get(key)) for key, name in named.items()}
            row |= {"gained": other.get("gained"), "lost": other.get("lost"), "McNemar p": other.get("p")}
        rows.append(row)
    return counted(pd.DataFrame(rows).dropna(axis="columns", how="all"), WHOLE)


def counted(table: pd.DataFrame, whole: Iterable[str]) -> pd.DataFrame:
    """The table with these columns as whole numbers: pandas makes 3.0 of 3 where a number is missing."""
    return table.astype({name: "Int64" for name in whole if name in table})


def percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
