"""Forks tests/support/job_script.py, as jobs are forked: python -m tests.support.warm_script FILE."""

import sys

from lightreasoner.jobs.warm_worker import serve
from tests.support import job_script

if __name__ == "__main__":
    sys.argv[1:] = serve(int(sys.argv[1]))
    sys.exit(job_script.main())
