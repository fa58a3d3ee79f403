"""The Jobs tab, which lists running, waiting and finished jobs; and the page's header, which summarises them.

Another tab submits with `studio.jobs.submit(...)` and links to the job with `<a href="?tab=jobs&job=ID">`; a script
does the same with `address.open('jobs', { job: ID })` (assets/js/shared/address.js).
"""

from lightreasoner.serving.archive import ephemeral_disk_notice
from ui.access.actions import checked_calls
from ui.components.html_component import HtmlComponent
from ui.jobs.calls import Jobs
from ui.studio import Studio


class JobPanel(HtmlComponent):
    """The queue and the history. It has no value; the script requests what it shows."""

    script = "jobs/panel"
    root = "lr lr-jobs"


class Header(HtmlComponent):
    """The page's name and, on every tab, the state of the jobs."""

    script = "jobs/header"
    template, root = "header", "lr lr-header-status"
    owners_only = False


def build_header(studio: Studio) -> None:
    """Lay out the header, with a notice where the disk is ephemeral."""
    *_, header_status = Jobs(studio.jobs).calls
    Header(checked_calls(studio.settings, [header_status]), ephemeral_disk_notice(studio.settings), elem_id="lr-top")


def build_jobs(studio: Studio) -> None:
    """Lay out the tab, with a notice where jobs are off."""
    look, act, _ = Jobs(studio.jobs, studio.archiver).calls
    JobPanel(checked_calls(studio.settings, [look, act]), studio.settings.no_jobs, elem_id="lr-jobs")
