"""Command lines one after another in one process. torchrun runs it in forks of one that has made the imports.

torchrun … --run-path --start-method fork tests/support/cli_batch.py '[["finetune", …], ["finetune", …]]'
"""

import json
import sys

from lightreasoner.cli.main import main

if __name__ == "__main__":
    if status := max(main(argv) for argv in json.loads(sys.argv[1])):
        raise SystemExit(status)  # without one, torchrun waits for what it takes for a function to return
