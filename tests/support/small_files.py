"""A command line whose files may not grow beyond a few kilobytes, which is what a full disk is to a writer.

python -m tests.support.small_files BYTES VERB …
"""

import resource
import sys

from lightreasoner.cli.main import main

if __name__ == "__main__":
    most = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    raise SystemExit(main(sys.argv[2:]))
