"""Tables of results as files: CSV for a spreadsheet or a script, LaTeX for a paper."""

import pandas as pd

KINDS = ("csv", "tex")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute


def table_text(table: pd.DataFrame, kind: str) -> str:
    """The table as "csv", with all digits, or as a "tex" table for the package booktabs, with one decimal place.

    A number that is missing is an empty cell, in LaTeX a dash.
    """
    if kind == "csv":
        return table.map(_harmless).to_csv(index=False, lineterminator="\r\n")
    texts = table.map(_tex)
    numbers = [pd.api.types.is_numeric_dtype(table[name]) for name in table]
    return texts.to_latex(index=False, escape=True, column_format="".join("r" if n else "l" for n in numbers))


def _harmless(value: object) -> object:
    return "'" + value if isinstance(value, str) and value.startswith(FORMULA) else value


def _tex(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if pd.isna(value):
        return "–"
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 0.05 or not value else f"{value:.2g}"
    return str(value)
