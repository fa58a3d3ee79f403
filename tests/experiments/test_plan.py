"""Plans of experiments: what a file and the options mean, and what is refused in a sentence."""

from __future__ import annotations

import tomllib

import pytest

from lightreasoner.cli.experiment import parse_arm
from lightreasoner.errors import UserError
from lightreasoner.experiments.budget import Rates, fitted
from lightreasoner.experiments.figures import BEST, rounds_figure, rounds_table
from lightreasoner.experiments.plan import CONTROL, plan_of, read_plans, write_plan
from lightreasoner.experiments.report import sentence
from lightreasoner.experiments.results import ArmResult, best_arm
from lightreasoner.experiments.stages import round_stages
from lightreasoner.scoring.significance import wilson

PLAN = {"problems": "bundled-train", "test": "bundled-test"}


def names(plan) -> list[str]:
    return [arm.name for arm in plan.arms]


def test_without_arms_it_is_the_paper_s_method_beside_its_control():
    plan = plan_of(PLAN)
    assert names(plan) == ["lightreasoner", CONTROL]
    method, control = plan.arms
    assert (method.config.method, method.selection.selector) == ("lightreasoner", "kl")
    assert (control.config.method, control.selection.selector) == ("random-steps", "random")
    assert control.cost == method.cost and (plan.pair, plan.rounds) == ("bundled", 1)


def test_arms_of_several_methods_and_seeds_have_names_of_their_own():
    """A list of methods beside a list of seeds was refused: both arms bore the whole list as their name."""
    plan = plan_of(PLAN | {"arm": [{"method": ["lightreasoner", "sft"], "seed": [0, 1]}], "control": False})
    assert [arm.name for arm in plan.arms][1:3] == ["lightreasoner, seed 1", "sft, seed 0"]


def test_a_control_is_the_first_arm_with_other_steps_alone():
    plan = plan_of(PLAN | {"arm": [{"learning_rate": 0.001, "max_steps": 7, "beta": 0.1, "seed": 3}]})
    method, control = plan.arms
    assert control.config == type(control.config)(**vars(method.config) | {"method": "random-steps"})
    assert (control.selection.beta, control.selection.seed) == (0.1, 3)
    _, control = plan_of(PLAN | {"arm": [{"selector": "teaching", "tau": 0.1}]}).arms
    assert (control.selection.selector, control.selection.tau) == ("random", None)


def test_lists_make_an_arm_of_each_combination():
    arm = {"name": "A", "learning_rate": [1e-3, 1e-4], "seed": [0, 1], "target_modules": ["q_proj", "v_proj"]}
    plan = plan_of(PLAN | {"arm": [arm], "control": False})
    assert names(plan) == [
        "A, learning_rate 0.001, seed 0",
        "A, learning_rate 0.001, seed 1",
        "A, learning_rate 0.0001, seed 0",
        "A, learning_rate 0.0001, seed 1",
    ]
    assert all(one.config.target_modules == ("q_proj", "v_proj") for one in plan.arms)
    assert [one.config.seed for one in plan.arms] == [one.selection.seed for one in plan.arms] == [0, 1, 0, 1]


def test_the_cheapest_arms_come_first():
    plan = plan_of(PLAN | {"arm": [{"max_steps": [30, 10, 20]}], "control": False})
    assert [arm.config.max_steps for arm in plan.in_order()] == [10, 20, 30]


def test_settings_of_all_arms_are_given_once():
    plan = plan_of(PLAN | {"arms": {"max_steps": 5}, "arm": [{"name": "a"}, {"name": "b", "max_steps": 6}]})
    assert [arm.config.max_steps for arm in plan.arms] == [5, 6, 5]


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"pair": "bundled", "limit": 5, "test_limit": 9, "rounds": 3, "stop_worse": True, "preview": 0},
        {"expert": "a/b", "amateur": './c\\d "e" ü\n', "split": "train", "preview_betas": "0.1, 2"},
        {"arm": [{"name": 'ä="1"', "target_modules": ["q_proj"], "budget": 0.25, "selector": "js", "seed": 4}]},
        {"arm": [{"method": "sft"}, {"method": "all-steps"}], "control": False},
        {"test": ["bundled-test", "gsm8k"]},
        {"test": ["bundled-test"], "test_split": "test"},
    ],
)
def test_a_plan_that_is_written_is_read_as_the_same(tables, tmp_path):
    plan = plan_of(PLAN | tables)
    (tmp_path / "plan.toml").write_text(write_plan(plan), encoding="utf-8")
    assert read_plans(tmp_path / "plan.toml")[""] == plan == plan_of(plan.as_json())


@pytest.mark.parametrize(
    "tables, says",
    [
        ({"problems": ""}, "names no problems"),
        ({"test": 5}, "names no test"),
        ({"test": []}, "names no test"),
        ({"test": ["gsm8k", ""]}, "names no test"),
        ({"test": ["gsm8k", "gsm8k"]}, "each named once"),
        ({"test": ["gsm8k", "math"], "test_split": "test"}, "belongs to one test set"),
        ({"limit": 0}, "limit is 0; it must be a whole number from 1"),
        ({"limit": True}, "limit is True"),
        ({"test_limit": 1}, "test_limit is 1"),
        ({"rounds": 11}, "rounds is 11"),
        ({"next_amateur": "old"}, "next_amateur is 'old'; it must be same for"),
        ({"next_amateur": ["same"]}, "it must be same for the plan's amateur, or expert for"),
        ({"preview": 1}, "an interval needs two"),
        ({"preview_betas": "0.4,x"}, "preview_betas"),
        ({"preview_betas": 0.4}, "preview_betas is 0.4; it must be a text"),
        ({"stop_worse": "yes"}, "must be true or false"),
        ({"learning_rate": 1e-3}, "The plan has 'learning_rate', which is unknown"),
        ({"pair": "no-such"}, "no-such"),
        ({"expert": "a/b"}, "names no amateur"),
        ({"arm": {"name": "x"}}, r"begin each with \[\[arm\]\]"),
        ({"arm": [{"learning-rate": 1}]}, "has 'learning-rate', which is unknown"),
        ({"arm": [{"learning_rate": "fast"}]}, "learning_rate is fast"),
        ({"arm": [{"method": "magic"}]}, "choose one of lightreasoner"),
        ({"arm": [{"selector": 3}]}, "which is no name"),
        ({"arm": [{"seed": []}]}, "an empty list"),
        ({"arm": [{"seed": list(range(9)), "rank": list(range(1, 9))}]}, "more than 64 arms"),
        ({"arm": [{}, {}]}, "Two arms are called 'lightreasoner'"),
    ],
)
def test_what_cannot_be_a_plan_is_refused_in_a_sentence(tables, says):
    with pytest.raises(UserError, match=says):
        plan_of(PLAN | tables)


@pytest.mark.parametrize("text", ["problems = ", "\x00", "[[arm]\n"])
def test_a_file_that_is_no_plan(tmp_path, text):
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(UserError, match=r"plan.toml is no plan: .* It must be a TOML file"):
        read_plans(tmp_path / "plan.toml")
    with pytest.raises(UserError, match="is no plan: No such file"):
        read_plans(tmp_path / "none.toml")


def test_an_arm_on_the_command_line():
    assert parse_arm("learning_rate=1e-3, max-steps=300,seed=0|1|2,method=sft") == {
        "learning_rate": 1e-3,
        "max_steps": 300,
        "seed": [0, 1, 2],
        "method": "sft",
    }
    for text in ("fast", "=1", "seed="):
        with pytest.raises(UserError, match="write its settings as NAME=VALUE"):
            parse_arm(text)


def test_the_plan_in_the_documentation_is_one():
    text = __import__("lightreasoner.experiments.plan", fromlist=["x"]).__doc__.partition("form:\n")[2]
    assert len(plan_of(tomllib.loads(text)).arms) == 4  # three seeds and the control


def test_a_later_round_s_amateur_is_the_same_or_the_expert_of_the_round_before(tmp_path):
    tables = PLAN | {"expert": "a/expert", "amateur": "a/amateur", "rounds": 3, "control": False}
    for named, amateurs in (("same", ["a/amateur"] * 3), ("expert", ["a/amateur", "a/expert", "x-r2-expert"])):
        plan = plan_of(tables | {"next_amateur": named})
        rounds = [round_stages(plan, tmp_path / "x", turn, None if turn == 1 else f"e{turn}") for turn in (1, 2, 3)]
        jobs = [next(stage.job for stage in stages if stage.kind == "dataset") for stages in rounds]
        assert [job.expert for job in jobs] == ["a/expert", "e2", "e3"]
        assert [job.amateur.rpartition(str(tmp_path) + "/")[2] for job in jobs] == amateurs


def arm(turn, name, before, after, whole=True):
    given = dict.fromkeys(ArmResult.__dataclass_fields__, 0) | {"name": name, "round": turn, "whole": whole}
    given |= {"problems": 100, "before": before, "pass_at_1": after, "difference": after - before, "low": 0.01}
    return ArmResult(**given | {"high": 0.2, "is_control": name == CONTROL})


def test_the_best_arm_solves_the_most_of_all_rounds_and_the_verdict_tells_of_the_others():
    """A later round that solved more lost to the first one, which gained more; and one that lost was not mentioned."""
    further = [arm(1, "a", 0.2, 0.4), arm(2, "a", 0.4, 0.5), arm(2, CONTROL, 0.4, 0.42)]
    assert best_arm(further) is further[1]
    assert sentence(further).startswith("Round 2, a: pass@1 from 40.0 to 50.0 % of 100 problems")
    assert sentence(further).endswith("42.0 % (+2.0 points). The expert before all rounds solves 20.0 %.")
    lost = [arm(1, "a", 0.2, 0.4), arm(2, "a", 0.4, 0.3), arm(2, CONTROL, 0.4, 0.2), arm(3, "a", 0.3, 0.9, whole=False)]
    assert best_arm(lost) is lost[0]
    assert "Round 2 does not reach it: its best, a, solves 30.0 % (−10.0 points against" in sentence(lost)
    assert "ound" not in sentence(lost[:1])


def test_rounds_are_a_curve_of_the_experts_that_they_end_with():
    arms = [arm(1, "a", 0.2, 0.3), arm(1, "b", 0.2, 0.4), arm(1, CONTROL, 0.2, 0.25), arm(2, "a", 0.41, 0.5)]
    arms += [arm(2, CONTROL, 0.41, 0.1, whole=False)]
    table = rounds_table(arms)
    best = table[table["series"] == BEST]
    assert best["round"].tolist() == [0, 1, 2] and best["pass_at_1"].tolist() == [0.2, 0.4, 0.5]
    assert table[table["series"] != BEST][["round", "pass_at_1"]].values.tolist() == [[1, 0.25]]
    assert (best["low"].iloc[0], best["high"].iloc[0]) == wilson(20, 100)
    figure = rounds_figure(arms)
    assert figure.data[0].y == (20.0, 40.0, 50.0) and figure.layout.xaxis.ticktext == ("before", "1", "2")
    says = "pass@1 of the best arm: before the first round 20.0 %; after round 1 40.0 %; after round 2 50.0 %."
    assert figure.layout.meta["says"] == says
    assert len(rounds_figure([]).data) == 0 and len(rounds_table([arm(1, "a", 0.2, 0.1, whole=False)])) == 0


def test_a_budget_lowers_what_takes_time_in_proportion():
    plan = plan_of(PLAN | {"arm": [{"max_steps": 500}]})  # and the control
    found = fitted(plan, 10, Rates(response=0.1, update=0.2, loading=2.0), learned=10_000, tested=10_000)
    spare = 600 - 6 * 2.0  # seconds
    assert found.preview == min(100, int(0.1 * spare / 0.7)) and found.limit == int(0.2 * spare / 0.1)
    assert {arm.config.max_steps for arm in found.arms} == {500}, "they fit"
    assert found.test_limit == pytest.approx(0.3 * spare / 0.3, abs=1)
    short = fitted(plan, 1, Rates(0.1, 0.2, 2.0), learned=50, tested=10_000)
    assert (short.preview, short.limit) == (0, 50)
    assert {arm.config.max_steps for arm in short.arms} == {int(0.4 / 0.9 * 48 / 0.4)}
    assert found.rounds == plan.rounds and found.arms[1].is_control


def test_a_budget_that_is_too_small_says_what_would_do():
    with pytest.raises(UserError, match=r"0.2 minutes are too few on this machine, where 6 stages .* at least 0.6 min"):
        fitted(plan_of(PLAN), 0.2, Rates(0.1, 0.2, 2.0), 100, 100)
