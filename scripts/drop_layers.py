"""Make an amateur out of an expert: the same model without some of its middle layers, saved as a folder.

    python -m scripts.drop_layers REF OUT --drop 18-23

The verb make-amateur does the same within a run folder. Prints whether the amateur still writes sense.
"""

import argparse
from pathlib import Path

from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.derived_amateurs import without_layers
from lightreasoner.models.pairs import load_pair
from lightreasoner.problems.stream import load_problems
from lightreasoner.sampling.coherence import coherence
from lightreasoner.settings import from_environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ref", help="the expert: a folder, a GGUF file or a Hub id")
    parser.add_argument("out", type=Path)
    parser.add_argument("--drop", required=True, help="layers to remove, counted from 0, such as 18-23")
    options = parser.parse_args()
    settings = from_environment()
    without_layers(options.ref, options.drop, options.out, settings)
    pair = load_pair(options.ref, str(options.out.absolute()), LoadedModels(settings))
    print(coherence(pair, load_problems("bundled-train", limit=24).problems, 128).sentence)


if __name__ == "__main__":
    main()
