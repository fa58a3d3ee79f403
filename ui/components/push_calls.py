"""The calls of the page's scripts that push runs to the Hugging Face Hub and pull datasets from it.

A push needs the user's own token, from the form or from the sign-in with Hugging Face. The server's token is never
used. The user's token is passed to the job's process and nowhere else. A pull needs one for private datasets only.
"""

import os
from collections.abc import Callable
from pathlib import Path

import gradio as gr

from lightreasoner.errors import UserError
from lightreasoner.hub.token import checked_token
from lightreasoner.jobs.store import FINISHED, Job
from lightreasoner.jobs.view import job_view
from lightreasoner.publishing.contents import checked_license
from lightreasoner.publishing.push import checked_repo
from lightreasoner.storage.runs import read_run, run_folder
from ui.access.actions import action
from ui.components.run_list import MAX_LISTED
from ui.components.script_calls import answering
from ui.studio import Studio

KINDS = ("dataset", "adapter", "merged")
SHOWN = ("id", "state", "status", "message", "fraction", "numbers", "run")


def start_push(
    studio: Studio,
    run: object,
    repo: object,
    private: object,
    token: object,
    license: object = "",
    merged: Path | None = None,
    replace: object = False,
) -> Job:
    """Queue the job that publishes a run with the user's token. An interrupted push resumes when it is started again.

    merged: the folder of a merged model to publish instead of the adapter. Raises UserError.
    """
    folder, repo, license = run_folder(studio.settings, run).absolute(), checked_repo(repo), checked_license(license)
    read_run(folder)
    token = checked_token(token)
    if token is None:
        raise UserError("A push needs your own access token with write permission; the server's token is never used.")
    if not isinstance(private, bool) or not isinstance(replace, bool):
        raise UserError("Private and replace must be true or false; reload the page.")
    if any(job.state not in FINISHED for job in pushes_of(studio, folder)):
        raise UserError("This run is being pushed already; wait for that job to finish, or cancel it.")
    argv = ["push", str(folder), "--repo", repo, "--license", license]
    argv += ["--merged", str(merged)] if merged else []
    argv += ["--replace"] * replace + ["--public"] * (not private)
    return studio.jobs.submit("push", argv, f"Push to {repo}", token=token)


def start_pull(studio: Studio, repo: object, token: object) -> Job:
    """Queue the job that downloads a published dataset. Raises UserError."""
    repo, token = checked_repo(repo), checked_token(token)
    return studio.jobs.submit("pull", ["pull", repo], f"Pull {repo}", token=token)


def signed_in(oauth: gr.OAuthToken | None) -> str | None:
    """The token of the signed-in user. Outside of Spaces Gradio simulates a sign-in with the server's account, so there
    is none."""
    return oauth.token if oauth and os.environ.get("SPACE_ID") and os.environ.get("OAUTH_CLIENT_ID") else None


def pushes_of(studio: Studio, folder: Path) -> list[Job]:
    """The finished and active jobs that push this run, newest first."""
    jobs = studio.jobs.store.jobs(limit=MAX_LISTED)
    pushes = (job for job in jobs if job.verb == "push" and job.argv[1:2] == (str(folder),))
    return sorted(pushes, key=lambda job: -job.created)


def push_calls(studio: Studio, merged_of: Callable[[object], Path] | None = None) -> list[Callable[..., dict]]:
    """The functions push, pushed, pull and pulled, bound to this server's jobs.

    merged_of: finds the merged model of a run; None for datasets, which have none.
    """

    def state(job: Job) -> dict:
        view = job_view(studio.jobs.store, job)
        result = view["result"]
        repo = {"address": result.get("address"), "existing": bool(result.get("existing"))}
        return {name: view[name] for name in SHOWN} | repo | {"busy": job.state not in FINISHED}

    @action("components.push")
    def push(arguments: object, oauth: gr.OAuthToken | None = None) -> dict:
        """Start a push: [run, kind, {repo, private, license, token, replace}]. Gradio adds `oauth`."""

        def start(run, kind, form) -> dict:
            if not isinstance(form, dict) or kind not in KINDS:
                raise UserError("The form was incomplete; reload the page.")
            if kind == "merged" and merged_of is None:
                raise UserError("A dataset has no merged model.")
            merged = merged_of(run) if kind == "merged" else None
            token = form.get("token") or signed_in(oauth)
            options = (form.get("license") or "", merged, form.get("replace", False))
            return {"job": start_push(studio, run, form.get("repo"), form.get("private", True), token, *options).id}

        return answering(start)(arguments)

    @action("components.watch_push")
    @answering
    def pushed(run) -> dict:
        """The state of the latest push of a run: {"push": …}, null if there was none."""
        pushes = pushes_of(studio, run_folder(studio.settings, run).absolute())
        return {"push": state(pushes[0]) if pushes else None}

    @action("components.pull")
    def pull(arguments: object, oauth: gr.OAuthToken | None = None) -> dict:
        """Start a pull: [repo, token]."""

        def start(repo, token) -> dict:
            return {"job": start_pull(studio, repo, token or signed_in(oauth)).id}

        return answering(start)(arguments)

    @action("components.watch_pull")
    @answering
    def pulled(job_id) -> dict:
        if not isinstance(job_id, str):
            raise UserError("That is not the id of a job.")
        job = studio.jobs.store.get(job_id)
        if job.verb != "pull":
            raise UserError("That job is not a pull.")
        return {"pull": state(job)}

    return [push, pushed, *([] if merged_of else [pull, pulled])]
