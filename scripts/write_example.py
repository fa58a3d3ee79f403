"""Write the example that the page shows before any run (assets/examples) anew, with the bundled pair of today.

python scripts/write_example.py      on a CPU, as the stored one was made
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lightreasoner.settings import Settings  # noqa: E402
from lightreasoner.tracing.example import write_example  # noqa: E402

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as workspace:
        write_example(Settings(workspace=Path(workspace), device="cpu"))
