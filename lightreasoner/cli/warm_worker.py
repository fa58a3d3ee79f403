"""The process that jobs are forks of (jobs/warm_worker.py): python -m lightreasoner.cli.warm_worker FILE."""

import sys
from importlib import import_module

from lightreasoner import threads

#: In this order: what every job needs, and then what fine-tuning does.
NEEDED = (
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen2.modeling_qwen2",
    "lightreasoner.sampling.run",
    "lightreasoner.evaluation.run",
    "lightreasoner.experiments.run",
    "peft",
    "lightreasoner.training.finetune",
    "lightreasoner.training.run",
)


def main() -> int:
    """Import, fork, and in a fork run its command."""
    threads.wait_briefly()
    from lightreasoner.cli.main import main as run_command
    from lightreasoner.jobs.warm_worker import serve

    for name in NEEDED:
        import_module(name)
    words = serve(int(sys.argv[1]))
    sys.argv[1:] = words
    import numpy

    numpy.random.seed()  # forks would draw the same numbers otherwise
    return run_command()


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
