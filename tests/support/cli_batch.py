"""Command lines one after another in one process: torchrun and its imports cost ten seconds a start.

torchrun … -m tests.support.cli_batch '[["finetune", …], ["finetune", …]]'
"""

import json
import sys

from lightreasoner.cli.main import main

if __name__ == "__main__":
    raise SystemExit(max(main(argv) for argv in json.loads(sys.argv[1])))
