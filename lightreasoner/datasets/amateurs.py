"""Further amateurs of a dataset: each has a dataset of its own, of the same responses, inside the first one's folder.

`amateurs/NAME/` is a run folder like any other: its shards have the same names, rows and tokens as those beside it,
measured against another amateur. So everything that opens a dataset opens it.
"""

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.storage.runs import RECORD, read_run

FOLDER = "amateurs"
MADE = "An amateur: "  # begins the title of a run that made one
MOST = 16  # amateurs of one dataset


@dataclass(frozen=True)
class AmateurDataset:
    """The measures of one amateur of a dataset."""

    amateur: str  # its reference
    folder: Path  # of its dataset; of the first amateur, the dataset's own

    @property
    def name(self) -> str:
        return model_title(self.amateur)


def model_title(ref: str) -> str:
    """The end of a model's reference, such as "Qwen2.5-0.5B"; of an amateur that was made here, what it is."""
    made = Path(ref).parent
    if ref.endswith("/model") and (made / RECORD).is_file():
        with suppress(UserError):
            title = str(read_run(made)["about"].get("title") or "")
            if title.startswith(MADE):
                return title.removeprefix(MADE)
    return "::".join(part.rstrip("/").rpartition("/")[2] for part in ref.split("::"))


def further_folder(dataset: Path, ref: str) -> Path:
    """The folder of a further amateur's measures; of the same reference always the same."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model_title(ref)).strip("-.")[:40]
    return Path(dataset) / FOLDER / f"{name}-{hashlib.sha256(ref.encode()).hexdigest()[:8]}"


def amateur_datasets(dataset: Path) -> list[AmateurDataset]:
    """The amateurs of a dataset, its first one first. Raises UserError when the dataset is none, or damaged."""
    dataset = Path(dataset)
    run = read_run(dataset)
    found = [AmateurDataset(str(run["config"].get("amateur") or "unknown"), dataset)]
    for path in sorted((dataset / FOLDER).glob(f"[!.]*/{RECORD}"), key=lambda path: read_run(path.parent)["created"]):
        found.append(AmateurDataset(str(read_run(path.parent)["config"].get("amateur") or "unknown"), path.parent))
    return found


def check_amateurs(refs: list[str]) -> list[str]:
    """Several amateurs of one expert, as they were named. Raises UserError for one that is named twice, or too many."""
    if twice := next((ref for n, ref in enumerate(refs) if ref in refs[:n]), None):
        raise UserError(f"The amateur {twice} is named twice, and would be measured twice; name it once.")
    if len(refs) > MOST:
        raise UserError(f"These are {len(refs)} amateurs; at most {MOST} can be compared at once.")
    return refs
