"""A dataset's trajectory as a trace, so that any row of a dataset opens in the same view as a live run.

Its id is "<run id>.<sample>.<problem id>". The id of a live trace contains no point, so the two cannot be confused.
"""

from typing import Any

from lightreasoner.paper import ALPHA, ALPHA_FLOOR, BETA
from lightreasoner.problems.conversations import stored_context
from lightreasoner.scoring.measures import COMPARED, STEP_MEASURES
from lightreasoner.tracing.records import json_number, reweigh


def record_id(run_id: str, problem_id: str, sample: int = 0) -> str:
    """The id of a trajectory in a link."""
    return f"{run_id}.{sample}.{problem_id}"


def trace_record(row: dict, run: dict, run_id: str, texts: Any) -> dict:
    """A row of datasets.trajectories.SCHEMA in the format of records.trace_json, with the additional key `dataset`.

    run: the dataset's run record. texts: TokenTexts of the expert's tokenizer, or IdTexts. Steps without stored details
    have None for `candidates` and `support`, but all their measures.
    """
    config, about = run["config"], run["about"]
    expert, amateur = (str(config.get(role) or "unknown") for role in ("expert", "amateur"))
    pair = {"name": config.get("pair"), "same_model": expert == amateur, "expert": expert, "amateur": amateur}
    details = {step["index"]: step for step in row["steps"]}
    ids = {id for step in details.values() for id in step["ids"]}
    record = {
        "format": "lightreasoner-trace",
        "version": 1,
        "id": record_id(run_id, row["problem_id"], row["sample"]),
        "created": run["created"],
        "pair": pair | about.get("pair", {}),  # the keys of describe_pair
        "problem_id": row["problem_id"],
        "request": {
            "question": row["question"],
            "response": None,
            "prefix": [],
            "max_new_tokens": config.get("max_new_tokens", 128),
            "temperature": config.get("temperature", 0.0),
            "seed": config.get("seed", 0),
            "stop": config.get("stop", []),
            "context": [[*turn] for turn in stored_context(row.get("context"))],
            **({"prompt": config["prompt"]} if config.get("prompt") else {}),
        },
        "parent": None,
        "dataset": {"run": run_id, "problem_id": row["problem_id"], "sample": row["sample"], "answer": row["answer"]},
        "prompt_ids": row["prompt_ids"],
        "prompt": b"".join(map(texts.bytes, row["prompt_ids"])).decode("utf-8", "replace"),
        "response": row["response"],
        "finish_reason": row["finish_reason"],
        "seconds": 0.0,  # not measured per response
        "alpha_floor": ALPHA_FLOOR,
        "steps": [_step(row, index, details.get(index), texts) for index in range(len(row["response_ids"]))],
        "tokens": {str(id): texts.text(id) for id in sorted(ids)},
    }
    return reweigh(record, ALPHA, BETA)


def _step(row: dict, index: int, detail: dict | None, texts: Any) -> dict:
    token_id = row["response_ids"][index]
    candidates = None
    if detail is not None:
        candidates = {"ids": detail["ids"]}
        for who in ("expert", "amateur"):
            candidates[f"{who}_logprobs"] = [json_number(x) for x in detail[f"{who}_logprobs"]]
    return {
        "index": index,
        "token_id": token_id,
        "text": texts.text(token_id),
        **{name: json_number(row[name][index]) for name in (*STEP_MEASURES, *((COMPARED,) if COMPARED in row else ()))},
        "selected": False,  # reweigh decides
        "teaching": None,
        "support": None,
        "candidates": candidates,
    }
