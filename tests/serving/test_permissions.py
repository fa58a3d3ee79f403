"""The rules of a public server: permissions of visitors and of the owner, rate limits, and identification of users."""

from __future__ import annotations

import os
import threading
import time
from inspect import signature

import gradio as gr
import pytest

from lightreasoner.errors import UserError
from lightreasoner.serving.permissions import (
    NOBODY,
    OWNER,
    Action,
    User,
    check_permission,
    is_owner,
    sign_in_hint,
    visitor_pair,
    visitor_settings,
)
from lightreasoner.serving.quotas import RateLimit, TraceQuota, VisitorRateLimit, delete_oldest
from lightreasoner.settings import Settings, from_environment, to_environment
from lightreasoner.storage.atomic import folder_bytes
from lightreasoner.tracing.trace import TraceRequest
from ui.access.actions import action, action_of, checked_calls, checked_event, current_user, require_checks
from ui.access.cookies import read_cookies, set_cookie
from ui.access.middleware import oauth_names
from ui.access.sign_in import SignIn
from ui.compat.gradio import callable_functions
from ui.components.push_calls import push_calls
from ui.jobs.calls import Jobs
from ui.page import build
from ui.studio import Studio

PUBLIC = Settings(public=True, login="ann:a long word")
STRANGER = User("a" * 22, address="192.0.2.1")
BUNDLED = ("bundled", "", "")

#: Every action of the page and who may use it: the policy, to be changed here and at the handler.
PERMISSIONS = {
    "components.cancel_pair_check": "owner",
    "components.check_pair": "owner",
    "components.choose_pair": "visitors",
    "components.choose_prompt": "visitors",
    "components.describe_pair": "visitors",
    "components.list_pairs": "visitors",
    "components.name_prompt": "visitors",
    "components.preview_pair": "owner",
    "components.pull": "owner",
    "components.push": "owner",
    "components.watch_pair_check": "owner",
    "components.watch_pull": "owner",
    "components.watch_push": "owner",
    "datasets.add_amateur": "owner",
    "datasets.build": "owner",
    "datasets.choose_source": "owner",
    "datasets.compare_amateurs": "owner",
    "datasets.control_job": "owner",
    "datasets.delete": "owner",
    "datasets.rename": "owner",
    "datasets.name_columns": "owner",
    "datasets.offer_columns": "owner",
    "datasets.describe_problems": "owner",
    "datasets.describe_responses": "owner",
    "datasets.download": "owner",
    "datasets.estimate": "owner",
    "datasets.export_response": "owner",
    "datasets.import": "owner",
    "datasets.list_amateur": "owner",
    "datasets.list_steps": "owner",
    "datasets.made_amateurs": "owner",
    "datasets.make_amateur": "owner",
    "datasets.mark_step": "owner",
    "datasets.read_response": "owner",
    "datasets.score": "owner",
    "datasets.show_command": "owner",
    "datasets.show_prompt": "owner",
    "datasets.use_amateur": "owner",
    "datasets.view": "owner",
    "datasets.view_amateurs": "owner",
    "evaluate.choose_model": "owner",
    "evaluate.choose_source": "owner",
    "evaluate.control_job": "owner",
    "evaluate.count_answers": "owner",
    "evaluate.delete": "owner",
    "evaluate.rename": "owner",
    "evaluate.name_columns": "owner",
    "evaluate.offer_columns": "owner",
    "evaluate.describe_problems": "owner",
    "evaluate.download": "owner",
    "evaluate.fill_form": "owner",
    "evaluate.list_flips": "owner",
    "evaluate.list_responses": "owner",
    "evaluate.read_flip": "owner",
    "evaluate.read_response": "owner",
    "evaluate.regrade": "owner",
    "evaluate.score_response": "owner",
    "evaluate.set_verdict": "owner",
    "evaluate.show_command": "owner",
    "evaluate.show_prompt": "owner",
    "evaluate.start": "owner",
    "evaluate.update_adapters": "owner",
    "evaluate.view": "owner",
    "evaluate.watch_scoring": "owner",
    "experiments.choose_pair": "owner",
    "experiments.choose_size": "owner",
    "experiments.choose_source": "owner",
    "experiments.control_job": "owner",
    "experiments.count_answers": "owner",
    "experiments.delete": "owner",
    "experiments.rename": "owner",
    "experiments.name_columns": "owner",
    "experiments.offer_columns": "owner",
    "experiments.describe_problems": "owner",
    "experiments.download": "owner",
    "experiments.fill_form": "owner",
    "experiments.show_command": "owner",
    "experiments.start": "owner",
    "experiments.view": "owner",
    "finetune.choose_dataset": "owner",
    "finetune.choose_method": "owner",
    "finetune.choose_preset": "owner",
    "finetune.list_presets": "owner",
    "finetune.save_preset": "owner",
    "finetune.choose_selector": "owner",
    "finetune.control_job": "owner",
    "finetune.delete": "owner",
    "finetune.rename": "owner",
    "finetune.download": "owner",
    "finetune.estimate": "owner",
    "finetune.merge": "owner",
    "finetune.use_adapter": "owner",
    "finetune.show_command": "owner",
    "finetune.start": "owner",
    "finetune.update_datasets": "owner",
    "finetune.update_layers": "owner",
    "finetune.view": "owner",
    # running is checked once more against the preset pairs and the limits; traces need an id that nobody can guess
    "inspect.branch": "visitors",
    "inspect.choose_mode": "visitors",
    "inspect.name_columns": "visitors, costly",
    "inspect.offer_columns": "visitors, costly",
    "inspect.choose_problem": "visitors",
    "inspect.choose_writer": "visitors",
    "inspect.compare_traces": "visitors",
    "inspect.compare_with_greedy": "visitors",
    "inspect.choose_source": "visitors, costly",
    "inspect.offer_response": "visitors",
    "inspect.use_readable_rows": "visitors, costly",
    "inspect.choose_tuned_expert": "visitors",
    "inspect.draw_problem": "visitors",
    "inspect.edit_problem": "visitors",
    "inspect.export": "visitors",
    "inspect.find_flip": "owner",
    "inspect.follow_link": "visitors",
    "inspect.follow_link_others": "visitors",
    "inspect.follow_link_prompt": "visitors",
    "inspect.follow_link_stop": "visitors",
    "inspect.follow_link_writer": "visitors",
    "inspect.list_tuned_experts": "visitors",  # an empty list for visitors
    "inspect.open_problem_file": "visitors, costly",
    "inspect.open_tuned_expert": "owner",
    "inspect.read_origin": "visitors",
    "inspect.read_step": "visitors",
    "inspect.remove_problem_file": "visitors",
    "inspect.reopen": "visitors",
    "inspect.run": "visitors",
    "inspect.show_prompt": "visitors, costly",  # of the preset pairs, without loading a model
    "inspect.stop": "visitors",  # needs the run's key
    "inspect.update_pair_card": "visitors",
    "inspect.update_tuned_experts": "visitors",
    "jobs.control": "owner",
    "jobs.summarize": "visitors",  # visitors only learn whether a job runs
    "jobs.view": "owner",
}
ACTIONS = [Action(name, who.startswith("visitors")) for name, who in PERMISSIONS.items()]


@pytest.fixture(scope="module")
def public_studio(tmp_path_factory):
    return Studio(Settings(workspace=tmp_path_factory.mktemp("public"), device="cpu", public=True, max_new_tokens=900))


def permissions(functions) -> dict[str, str]:
    """Action → its users, of all functions that a browser can call. Fails for a missing action or a name used twice."""
    who, handlers = {}, {}
    for function in functions:
        handler, declared = f"{function.__module__}.{function.__qualname__}", action_of(function)
        assert declared, f"{handler} declares no action; decorate it, see ui/access/actions.py."
        allowed = ("visitors" if declared.visitors else "owner") + (", costly" if declared.costly else "")
        same = handlers.setdefault(declared.name, handler), who.setdefault(declared.name, allowed)
        assert same == (handler, allowed), f"{handler} and {same[0]} both are {declared.name}."
        assert not handler.endswith("<lambda>"), f"{declared.name} is a lambda, which cannot be told from another one."
    return dict(sorted(who.items()))


def test_the_policy(public_studio):
    """The policy. A new handler is for the owner only until PERMISSIONS says otherwise."""
    found = permissions(callable_functions(build(public_studio)))
    table = "\n".join(f"{name:32}{who}" for name, who in found.items())
    assert found == PERMISSIONS, f"\n{table}"


def test_the_policy_with_a_sign_in_through_hugging_face(public_studio, monkeypatch):
    """Gradio's button wires an event of its own."""
    for name, value in {"SYSTEM": "spaces", "SPACE_ID": "ann/studio", "OAUTH_CLIENT_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("gradio.routes.attach_oauth", lambda app: None)
    found = permissions(callable_functions(build(public_studio)))
    assert found == PERMISSIONS | {"access.show_sign_in": "visitors"}


def test_a_checked_call_takes_what_the_call_takes(public_studio):
    """Gradio reads from the signature whether a call takes the token of the signed-in user."""
    taken = {
        call.__name__: list(signature(call).parameters) for call in checked_calls(PUBLIC, push_calls(public_studio))
    }
    assert taken == {
        "push": ["arguments", "oauth"],
        "pushed": ["arguments"],
        "pull": ["arguments", "oauth"],
        "pulled": ["arguments"],
    }


def test_actions_are_declared_once_and_for_each_handler():
    def handler():
        """Nothing."""

    def other():
        """Nothing either."""

    with pytest.raises(AssertionError, match="declares no action"):
        permissions([handler])
    declared = action("jobs.view")(handler)
    assert declared is handler and permissions([handler, handler]) == {"jobs.view": "owner"}
    with pytest.raises(AssertionError, match=r"both are jobs\.view"):
        permissions([handler, action("jobs.view")(other)])
    with pytest.raises(AssertionError, match="is a lambda"):
        permissions([action("jobs.view")(lambda: None)])


def test_a_function_without_a_permission_check_stops_the_server_from_starting(public_studio):
    page = build(public_studio)
    event = next(iter(page.fns.values()))
    event.fn = event.fn.__wrapped__
    with pytest.raises(RuntimeError, match="No permission is checked"):
        require_checks(page)


def test_a_handler_without_an_action_is_for_the_owner_only(monkeypatch):
    """Both as an event and as a call of a script."""

    def event():
        return "done"

    def call(arguments):
        return {"done": arguments}

    [checked_call] = checked_calls(PUBLIC, [call])
    checked = checked_event(event, PUBLIC, VisitorRateLimit(9, 60))
    for who in (STRANGER, NOBODY):
        monkeypatch.setattr("ui.access.actions.current_user", lambda _settings, who=who: who)
        with pytest.raises(gr.Error, match="belongs to the owner"):
            checked()
        assert "belongs to the owner" in checked_call(1)["error"]
    monkeypatch.setattr("ui.access.actions.current_user", lambda _settings: OWNER)
    assert checked() == "done" and checked_call(1) == {"done": 1}


def test_the_page_of_a_private_server_is_not_wrapped(tmp_path):
    page = build(Studio(Settings(workspace=tmp_path, device="cpu")))
    assert not any(hasattr(event.fn, "__wrapped__") for event in page.fns.values())


def test_every_user_of_a_private_server_is_the_owner():
    assert current_user(Settings()) == OWNER
    assert current_user(PUBLIC) == NOBODY  # no request, no rights
    for declared in (*ACTIONS, None):
        check_permission(OWNER, declared, Settings())


def test_visitors_may_use_their_actions_only():
    for declared in ACTIONS:
        if declared.visitors:
            check_permission(STRANGER, declared, PUBLIC)
    for declared in [*(declared for declared in ACTIONS if not declared.visitors), Action("something.new"), None]:
        for who in (STRANGER, NOBODY):
            with pytest.raises(UserError, match=r"owner of this server\. The owner signs in"):
                check_permission(who, declared, PUBLIC)
    with pytest.raises(UserError, match="without LIGHTREASONER_LOGIN"):
        check_permission(STRANGER, None, Settings(public=True))


@pytest.mark.parametrize(
    ("refs", "tuned", "says"),
    [
        ((None, "a/b", "a/c"), None, "Other models"),
        (("nobody's", "a/b", "a/c"), None, "There is no pair"),
        ((["bundled"], "", ""), None, "There is no pair"),
        (BUNDLED, {"tuned": "/etc/passwd", "writer": "expert"}, "Tuned experts"),
        (("qwen2.5-math-7b", "", ""), None, "not on this server"),
    ],
)
def test_a_visitor_runs_presets_on_the_server_only(refs, tuned, says, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=says):
        visitor_pair(refs, tuned)


def test_a_visitors_models_come_from_the_presets():
    assert visitor_pair(("bundled", "/etc/passwd", "https://example.org"), None)[1] == "lightreasoner-expert-4m"
    assert visitor_settings(Settings(visitor_tokens=100)).max_new_tokens == 100
    assert visitor_settings(Settings(max_new_tokens=50)).max_new_tokens == 50


def test_starting_a_trace_checks_the_permission_again(public_studio, monkeypatch):
    monkeypatch.setattr("ui.studio.current_user", lambda _settings: STRANGER)
    with pytest.raises(UserError, match="Other models"):
        public_studio.start(TraceRequest("2 + 2?"), (None, "a/b", "a/c"))
    with pytest.raises(UserError, match="from 1 to 512"):
        public_studio.start(TraceRequest("2 + 2?", max_new_tokens=900), BUNDLED)
    live = public_studio.start(TraceRequest("2 + 2?", max_new_tokens=4), BUNDLED)
    assert live.done.wait(60) and not live.error
    live._report_holder({"who": "job The owner's secret plan"})
    assert "secret" not in live.status
    assert live._message(UserError(f"{public_studio.settings.workspace}/traces is full")) == "…/traces is full"


def test_a_visitor_only_learns_whether_a_job_runs(public_studio, monkeypatch):
    jobs = Jobs(public_studio.jobs)
    assert jobs.header_status(None) == {"running": None, "queued": 0, "holder": None, "busy": False}  # no request
    monkeypatch.setattr("ui.jobs.calls.current_user", lambda _settings: OWNER)
    assert "busy" not in jobs.header_status(None)


def test_owners_match_exactly():
    settings = Settings(owners=" Ann, acme-labs ,")
    assert is_owner(["ann"], settings) and is_owner(["bob", "ACME-Labs"], settings)
    for names in ([], [""], ["an"], ["ann, acme-labs"], [None], [["ann"]]):
        assert not is_owner(names, settings)
    assert not is_owner([""], Settings())


def test_oauth_gives_the_name_and_the_organisations():
    info = {"userinfo": {"preferred_username": "ann", "orgs": [{"preferred_username": "acme", "name": "Ann"}, "x"]}}
    info |= {"access_token": "t", "expires_at": time.time() + 60}
    assert oauth_names({"session": {"oauth_info": info}}) == ["ann", "acme"]  # a free name, like "Ann", is not one
    assert oauth_names({"session": {"oauth_info": info | {"expires_at": time.time() - 60}}}) == []
    for session in (None, {}, {"oauth_info": None}, {"oauth_info": {"userinfo": None, "expires_at": time.time() + 9}}):
        assert oauth_names({"session": session}) == []
    assert oauth_names({}) == []


def test_oauth_is_only_used_on_spaces(monkeypatch):
    monkeypatch.setenv("OAUTH_CLIENT_ID", "x")
    assert not SignIn(PUBLIC).oauth  # elsewhere Gradio signs every user in under an invented profile
    monkeypatch.setenv("SYSTEM", "spaces")
    assert SignIn(PUBLIC).oauth
    assert "Hugging Face" in sign_in_hint(PUBLIC)


def test_the_password_and_the_cookie():
    sign_in = SignIn(Settings(public=True, login="ann:a:b"))
    assert sign_in.is_correct("ann", "a:b")
    for user, password in (("ann", "a"), ("", ""), ("ann", ""), ("Ann", "a:b"), ("ann\ud800", "a:b")):
        assert not sign_in.is_correct(user, password)
    assert not SignIn(Settings(public=True)).is_correct("", "")
    token = sign_in.sign_in()
    assert sign_in.is_signed_in(token) and not sign_in.is_signed_in("") and not SignIn(PUBLIC).is_signed_in(token)
    sign_in._tokens[token] = time.time() - 1
    assert not sign_in.is_signed_in(token)
    token = sign_in.sign_in()
    sign_in.sign_out(token)
    assert not sign_in.is_signed_in(token)


def test_the_mark_of_the_owners_browser():
    mark = SignIn(PUBLIC).new_device()
    assert SignIn(PUBLIC).device(mark) == mark.partition(".")[0], "after a restart, too"
    other = SignIn(Settings(public=True, login="ann:another word"))
    for forged in ("", ".", mark[:-1], f"x{mark}", "a\ud800.b", mark.partition(".")[0]):
        assert SignIn(PUBLIC).device(forged) is None, forged
    assert other.device(mark) is None and SignIn(Settings(public=True)).device(mark) is None


def test_cookies_are_lax_here_and_secure_in_the_frame_of_a_space(monkeypatch):
    assert set_cookie({"scheme": "http"}, "a", "b", 9) == "a=b; Path=/; Max-Age=9; SameSite=Lax; HttpOnly"
    assert "; Secure" in set_cookie({"scheme": "https"}, "a", "b", 9)
    monkeypatch.setenv("SPACE_ID", "ann/studio")
    assert "SameSite=None; Secure; Partitioned; HttpOnly" in set_cookie({}, "a", "b", 9)
    assert read_cookies("a=b; lr_owner=x") == {"a": "b", "lr_owner": "x"}
    assert read_cookies('a="; lr\x00') in ({}, {"a": '"'})


def test_rate_limits():
    rate = RateLimit(2, 0.1)
    assert [rate.allow("a"), rate.allow("a"), rate.allow("a"), rate.allow("b")] == [True, True, False, True]
    time.sleep(0.12)
    assert rate.allow("a")
    rate = VisitorRateLimit(2, 60)
    assert [rate.allow(STRANGER) for _ in range(3)] == [True, True, False]
    fresh = (User(f"{n:022}", address=STRANGER.address) for n in range(20))
    assert sum(rate.allow(visitor) for visitor in fresh) == 4, "fresh cookies bring no more than the address has"
    assert sum(rate.allow(User("", address="192.0.2.9")) for _ in range(20)) == 6


def test_visitors_traces_are_limited_at_once_and_per_minute():
    traces, done = TraceQuota(Settings(visitor_traces=1, public_traces=3, traces_per_minute=3)), threading.Event()
    traces.admit(STRANGER, done)
    with pytest.raises(UserError, match="1 of your runs"):
        traces.admit(STRANGER, threading.Event())
    traces.admit(User("b" * 22, address=STRANGER.address), threading.Event())
    with pytest.raises(UserError, match="2 of your runs"):  # a third cookie at the same address
        traces.admit(User("c" * 22, address=STRANGER.address), threading.Event())
    traces.admit(User("d" * 22, address="192.0.2.2"), threading.Event())
    with pytest.raises(UserError, match="3 runs of visitors are in progress"):
        traces.admit(User("e" * 22, address="192.0.2.3"), threading.Event())
    for _ in range(2):
        done.set()
        done = threading.Event()
        traces.admit(STRANGER, done)
    done.set()
    with pytest.raises(UserError, match="Too many runs per minute"):
        traces.admit(STRANGER, threading.Event())


def test_the_oldest_traces_are_deleted_first(tmp_path):
    for n in range(4):
        path = tmp_path / f"{n}.json"
        path.write_bytes(b"x" * 100)
        os.utime(path, (n, n))
    (tmp_path / "other.txt").write_bytes(b"x" * 100)
    delete_oldest(tmp_path, "*.json", 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.json", "3.json", "other.txt"]
    assert folder_bytes(tmp_path) == 300
    delete_oldest(tmp_path / "none", "*.json", 0)


def test_settings_of_a_public_server():
    assert not from_environment({}).public
    assert from_environment({"LIGHTREASONER_PUBLIC": "1"}).public
    former = {"LIGHTREASONER_KEEP": "/data", "LIGHTREASONER_TRACES_A_MINUTE": "3", "LIGHTREASONER_LEASE": "/lock"}
    read = from_environment(former)
    assert (read.archive, read.traces_per_minute, read.lock_folder) == ("/data", 3, "/lock")
    assert from_environment(former | {"LIGHTREASONER_ARCHIVE": ""}).archive == "", "the new name counts"
    space = {"SPACE_ID": "ann/studio", "SPACE_AUTHOR_NAME": "ann"}
    assert from_environment(space).public and from_environment(space).owners == "ann"
    assert from_environment(space | {"LIGHTREASONER_OWNERS": "bob"}).owners == "bob"
    assert not from_environment(space | {"LIGHTREASONER_PUBLIC": "0"}).public
    with pytest.raises(UserError, match="set it to 1 or 0"):
        from_environment({"LIGHTREASONER_PUBLIC": "maybe"})
    for login in ("ann", "ann:", ":word"):
        with pytest.raises(UserError, match="not of the form user:password") as refused:
            from_environment({"LIGHTREASONER_LOGIN": login})
        assert "word" not in str(refused.value).replace("password", "")


def test_jobs_do_not_get_the_password():
    env = to_environment(PUBLIC)
    assert env["LIGHTREASONER_LOGIN"] == "" and from_environment(env).public
