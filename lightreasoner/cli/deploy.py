"""The command deploy-space: push this app to a Hugging Face Space."""

import argparse

from lightreasoner.formatting import format_bytes
from lightreasoner.settings import Settings


def add(verbs) -> None:
    deploy = verbs.add_parser("deploy-space", help="push this app to a Hugging Face Space")
    deploy.add_argument("repo", metavar="OWNER/NAME", help="the Space; created if missing")
    deploy.add_argument("--sdk", choices=("docker", "gradio"), default="docker", help="default: docker")
    deploy.add_argument("--private", action="store_true", help="create a private Space")
    deploy.add_argument("--hardware", metavar="NAME", help="the Hub's name, e.g. cpu-upgrade, t4-small or zero-a10g")
    deploy.add_argument("--dry-run", action="store_true", help="print the files without contacting the Hub")
    deploy.set_defaults(run=run_deploy)


def run_deploy(options: argparse.Namespace, settings: Settings) -> None:
    from lightreasoner.publishing.space import plan, push, size_of

    planned = plan(options.repo, options.sdk, options.hardware, options.private)
    if options.dry_run:
        print(
            f"README.md of {planned.repo} would begin with\n\n{planned.files['README.md'].partition('# ')[0].strip()}\n"
        )
        for name, content in planned.files.items():
            print(f"{size_of(content):>10,}  {name}")
        print(f"{planned.size:>10,}  bytes in {len(planned.files)} files; nothing was pushed")
        return
    print(f"Pushing {len(planned.files)} files, {format_bytes(planned.size)}, to {planned.repo} ...", flush=True)
    print(push(planned))
