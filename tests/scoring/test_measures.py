"""The table of step measures against what is computed, stored and drawn."""

from __future__ import annotations

from dataclasses import fields

import pyarrow as pa

from lightreasoner.datasets.trajectories import SCHEMA
from lightreasoner.scoring.divergence import CANDIDATES, StepScore
from lightreasoner.scoring.measures import (
    COMPARED,
    FLOAT_MEASURES,
    MEASURES,
    STEP_MEASURES,
    TAKEN_MEASURES,
    TUNING_MEASURES,
)
from lightreasoner.tracing.events import TuningShift
from ui.scripts import engine_constants

STORED = {pa.float32(): float, pa.int32(): int, pa.bool_(): bool}


def test_the_table_is_the_scorers_fields():
    types = {m.key: m.type | None if m.taken else m.type for m in MEASURES if m.type}
    step, tuning = ({f.name: f.type for f in fields(kind)} for kind in (StepScore, TuningShift))
    assert tuple(step) == (*STEP_MEASURES, *CANDIDATES, COMPARED) and tuple(tuning) == (
        *TUNING_MEASURES,
        "tuned_logprobs",
    )
    assert {name: kind for name, kind in (step | tuning).items() if name in types} == types


def test_the_table_is_the_shards_columns():
    first = SCHEMA.get_field_index(STEP_MEASURES[0])
    assert tuple(SCHEMA.names[first:-1]) == STEP_MEASURES and SCHEMA.names[-1] == "steps"
    types = {m.key: m.type for m in MEASURES}
    assert all(STORED[SCHEMA.field(name).type.value_type] is types[name] for name in STEP_MEASURES)
    assert (*FLOAT_MEASURES, "expert_rank", "amateur_rank", "agree") == STEP_MEASURES
    assert [name for name in STEP_MEASURES if name in TAKEN_MEASURES] == [
        *("expert_logprob", "amateur_logprob", "expert_rank", "amateur_rank")
    ]


def test_the_page_gets_the_table():
    constants = engine_constants(public=False)
    assert [m["key"] for m in constants["measures"]] == [m.key for m in MEASURES]
    assert constants["paper"] == {"alpha": 0.2, "beta": 0.4, "alphaFloor": 0.01, "teaches": 0.01, "tie": 1e-6}
