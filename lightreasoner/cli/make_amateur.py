"""The verb make-amateur: an amateur out of the expert, and whether what it writes still makes sense."""

import argparse
from pathlib import Path

from lightreasoner.cli.options import Once, add_run_dir, given
from lightreasoner.formatting import printable
from lightreasoner.settings import Settings


def add(verbs) -> None:
    make = verbs.add_parser(
        "make-amateur",
        help="make an amateur out of an expert",
        description="The expert without some of its layers, at an earlier checkpoint of its training, or before its "
        "last tuning. Then both write on a few problems, which tells whether the amateur still writes sense.",
    )
    make.add_argument("--expert", action=Once, required=True, metavar="REF", help="the model to make it of")
    make.add_argument(
        "--drop-layers", action=Once, metavar="N,…", help="leave these out, counted from 0: 1 or 2,3 or 8-11"
    )
    make.add_argument(
        "--checkpoint",
        type=int,
        action=Once,
        metavar="N",
        help="as it was after update N; the expert is BASE::RUN/adapter",
    )
    make.add_argument("--before-tuning", action="store_true", help="the model that it was tuned from")
    make.add_argument("--problems", action=Once, default="bundled-train", metavar="SOURCE", help="to check it on")
    make.add_argument("--limit", type=int, default=24, metavar="N", help="the first N problems (default 24)")
    make.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="per response (default 128)")
    add_run_dir(make, "folder for the amateur")
    make.set_defaults(run=run_make_amateur)


def run_make_amateur(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.jobs.context import job_context
    from lightreasoner.sampling.make_amateur import MakingJob, make_amateur

    names = ("expert", "drop_layers", "checkpoint", "before_tuning", "problems", "limit", "max_new_tokens")
    job = MakingJob(Path(options.run_dir), **given(options, *names))
    job.check(settings)
    with job_context(options.run_dir, options.verb, settings, title=job.title, keeps=False) as progress:
        made = make_amateur(job, settings, progress)
    print("\n".join(map(printable, made.sentences)))
