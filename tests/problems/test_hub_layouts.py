"""Every benchmark as it lies on the Hub, through the real client: its configurations, splits, columns and types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml
from huggingface_hub import constants

from lightreasoner.experiments.requirements import dataset_requirement
from lightreasoner.problems.sources import SOURCES
from tests.support.hub_server import Hub

SVAMP = {"ID": "chal-1", "Body": "Tom has 3 apples", "Question": "How many?", "Equation": "( 3.0 )", "Answer": "3.0"}
ASDIV = {"body": "Tom has 3 apples.", "question": "How many?", "solution_type": "Sum", "answer": "3 (apples)"}
OLYMPIAD = {
    **{"id": 1606, "question": "Find $n$.", "solution": ["It is $2$."], "final_answer": ["$2$"], "context": None},
    **{"modality": "Text-only", "difficulty": "Competition", "is_multiple_answer": False, "unit": None},
    **{"answer_type": "Numerical", "error": None, "question_type": "Open-ended", "subfield": "Algebra"},
}
MMLU = {"question": "Which?", "subject": "physics", "choices": ["a", "b", "c", "d"], "answer": 2}
MATH = {"problem": "Compute $1+1$.", "level": "Level 1", "type": "Algebra", "solution": "It is $\\boxed{2}$."}
#: Key → (a row, the answer that is read).
ROWS = {
    "gsm8k": ({"question": "Tom has 3 apples. How many?", "answer": "He has <<3=3>>3.\n#### 3"}, "3"),
    "math": (MATH, "2"),
    "math500": (MATH | {"answer": "2", "subject": "Algebra", "level": 1, "unique_id": "test/algebra/1.json"}, "2"),
    "svamp": (SVAMP | {"Type": "Sum", "question_concat": "Tom has 3 apples How many?"}, "3"),
    "asdiv": (ASDIV | {"formula": "3=3"}, "3"),
    "minerva_math": ({"question": "Find $g$.", "answer": "9.8"}, "9.8"),
    "olympiadbench": (OLYMPIAD, "2"),
    "mmlu_stem": (MMLU, "C"),
}
JSON_LINES = ("math500", "minerva_math")  # on the Hub; the others are Parquet
READ = """
from lightreasoner.problems.sources import SOURCES
from lightreasoner.problems.stream import open_problems
for source in SOURCES.values():
    if source.repo:
        print(*[source.key, *(problem.answer for problem in open_problems(source.key, split=source.splits[-1]))])
"""


def write(folder: Path, key: str) -> None:
    """A benchmark's repository: one row in each split of each configuration."""
    source, named = SOURCES[key], []
    for config in source.configs:
        place = folder / (config or "data")
        place.mkdir(parents=True)
        for split in source.splits:
            if key in JSON_LINES:
                (folder / f"{split}.jsonl").write_text(json.dumps(ROWS[key][0]) + "\n")
            else:
                pd.DataFrame([ROWS[key][0]]).to_parquet(place / f"{split}-00000-of-00001.parquet")
        paths = [{"split": split, "path": f"{place.name}/{split}-*"} for split in source.splits]
        named.append({"config_name": config or "default", "data_files": paths})
    if key not in JSON_LINES:
        (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': named})}---\n")


def test_every_benchmark_is_read_in_the_hub_s_layout(tmp_path, monkeypatch):
    benchmarks = {key: source for key, source in SOURCES.items() if source.repo}
    assert benchmarks.keys() == ROWS.keys()
    with Hub() as hub:
        for key, source in benchmarks.items():
            write(tmp_path / key, key)
            hub.add(source.repo, tmp_path / key, kind="dataset")
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for key in benchmarks:
            assert dataset_requirement(key).trouble == ""
        env = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
        env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "LIGHTREASONER_WORKSPACE": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", READ], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = [[key, *[answer] * len(benchmarks[key].configs)] for key, (_, answer) in ROWS.items()]
    assert [line.split() for line in done.stdout.splitlines()] == expected
