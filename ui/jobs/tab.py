"""The Jobs tab: everything that runs, waits or has ended, and what can be done with it. And the header's glance at it.

Another tab submits with `studio.jobs.submit(...)` and links to the job with `<a href="?tab=jobs&job=ID">`; a script
does the same with `lrAddress.open('jobs', { job: ID })` (assets/js/shared/address.js).
"""

from __future__ import annotations

from lightreasoner.serving.archive import forgetful
from ui.access.visitors import checked_calls
from ui.jobs.calls import Jobs
from ui.jobs.panel import Header, JobPanel
from ui.studio import Studio


def build_header(studio: Studio) -> None:
    """The page's name, and what the jobs are doing, on every tab."""
    *_, glance = Jobs(studio.jobs).calls
    Header(checked_calls(studio.settings, [glance]), forgetful(studio.settings), elem_id="lr-top")


def build_jobs(studio: Studio) -> None:
    """Lay the tab out."""
    look, act, _ = Jobs(studio.jobs, studio.keeper).calls
    JobPanel(checked_calls(studio.settings, [look, act]), studio.settings.no_jobs, elem_id="lr-jobs")
