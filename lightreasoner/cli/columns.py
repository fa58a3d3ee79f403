"""The verb name-columns: says which columns of a file of problems hold the questions and the answers."""

import argparse
from pathlib import Path

from lightreasoner.settings import Settings

MOST = 10**12  # bytes of a file


def add(verbs) -> None:
    columns = verbs.add_parser(
        "name-columns",
        help="name the columns of a file of problems that has names of its own",
        description="Writes the file anew as JSON lines whose columns are called question and answer. Without "
        "--question it prints the names of the file's columns.",
    )
    columns.add_argument("file", type=Path, metavar="F", help="JSON lines, JSON, CSV or Parquet")
    columns.add_argument("--question", metavar="COLUMN", help="the column of the questions")
    columns.add_argument("--answer", metavar="COLUMN", help="the column of the answers, if there is one")
    columns.add_argument("--out", type=Path, metavar="F", help="the file to write (default: FILE-named.jsonl)")
    columns.set_defaults(run=run_columns)


def run_columns(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.problems.column_mapping import column_names, named_rows
    from lightreasoner.problems.files import file_rows
    from lightreasoner.storage.atomic import atomic_file

    path = options.file
    file_rows(path, max_bytes=MOST)  # says what is wrong with the file itself
    if not options.question:
        print("\n".join(column_names(path, MOST)))
        return
    out = options.out or path.with_name(f"{path.stem}-named.jsonl")
    chosen = {"question": options.question, "answer": options.answer}
    with atomic_file(out) as file:
        rows = sum(file.write(line.encode()) > 0 for line in named_rows(path, chosen, MOST))
    print(f"{rows:,} rows are written to {out}")
