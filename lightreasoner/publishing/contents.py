"""The files of a run that are published on the Hub, without this machine's paths, and their manifest.

The manifest, lightreasoner.json, is sent first, with the card, and lists every other file with its SHA-256. An
interrupted push is resumed by it, and a pull checks by it that all files are complete and unchanged.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lightreasoner.datasets.amateurs import FOLDER as AMATEURS
from lightreasoner.datasets.amateurs import amateur_datasets
from lightreasoner.datasets.annotations import annotations_path, load_annotations
from lightreasoner.datasets.card import dataset_card
from lightreasoner.datasets.imported import FILE as SAMPLES
from lightreasoner.datasets.imported import is_imported
from lightreasoner.datasets.tokenizer import FOLDER as TOKENIZER
from lightreasoner.datasets.trajectories import FOLDER as TRAJECTORIES
from lightreasoner.datasets.trajectories import shards
from lightreasoner.errors import UserError
from lightreasoner.hub.download import MODEL_FILES
from lightreasoner.hub.redaction import redact, redact_text
from lightreasoner.models.weights import check_adapter, check_model
from lightreasoner.storage.atomic import locked, read_json, sha256, write_bytes
from lightreasoner.storage.runs import LOCK, RECORD, read_run
from lightreasoner.training.model_card import adapter_card
from lightreasoner.training.runs import adapter_folder, used_adapter

MANIFEST, CARD = "lightreasoner.json", "README.md"
FORMAT, VERSION = "lightreasoner-publication", 1
FIRST, LAST = (CARD,), (RECORD,)  # the Hub checks the card before other files; run.json completes a push
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,59}")


@dataclass(frozen=True)
class Publication:
    """What is published: files, checksums and sizes in bytes, by their names in the repository."""

    kind: str  # "dataset", "adapter" or "merged model"
    repo_type: str  # "dataset" or "model"
    title: str
    files: dict[str, Path]
    sha256: dict[str, str]
    sizes: dict[str, int]

    @property
    def manifest(self) -> str:
        """The text of lightreasoner.json, the same for the same files."""
        files = {name: {"sha256": self.sha256[name], "bytes": self.sizes[name]} for name in sorted(self.files)}
        return _json({"format": FORMAT, "version": VERSION, "kind": self.kind, "files": files})


@contextmanager
def publication(run_dir: Path, staging: Path, license: str | None, merged: Path | None = None) -> Iterator[Publication]:
    """The publication of a run, whose folder is locked inside the block.

    staging: an empty folder for generated files. license: an id of the Hub. merged: the folder of the merged model
    to publish instead of the adapter. Raises UserError.
    """
    run_dir, license = Path(run_dir), checked_license(license)
    run = read_run(run_dir)
    if run["kind"] not in ("dataset", "finetune"):
        raise UserError(
            f"{run_dir} holds a run of the kind {run['kind']}; only datasets and fine-tuning runs can be published."
        )
    if merged is not None and run["kind"] == "dataset":
        raise UserError(f"{run_dir} is a dataset and has no merged model; omit --merged.")
    with locked(run_dir / LOCK, f"{run_dir} is in use; wait for its job to finish or stop it, then publish it."):
        run = redact(read_run(run_dir))
        if run["kind"] == "dataset":
            yield _dataset(run_dir, run, staging, license)
        elif merged is not None:
            yield _model(run_dir, run, Path(merged), staging, license)
        else:
            yield _adapter(run_dir, run, staging, license)


def checked_license(license: object) -> str:
    """The licence as the Hub names it, "unknown" if none is given. Raises UserError."""
    text = license.strip().lower() if isinstance(license, str) else license
    if text in (None, ""):
        return "unknown"
    if not isinstance(text, str) or not _LICENSE.fullmatch(text):
        raise UserError("This is not a licence id of the Hub; give one such as mit, apache-2.0, cc-by-4.0 or other.")
    return text


def _dataset(folder: Path, run: dict, staging: Path, license: str) -> Publication:
    files = _dataset_files(folder, run, staging)
    if not files:
        raise UserError(f"{folder} has no steps yet, so there is nothing to publish; let its job write some first.")
    further = {}  # folder → record, of the amateurs that have read some responses
    for each in amateur_datasets(folder)[1:]:
        own, place = redact(read_run(each.folder)), f"{AMATEURS}/{each.folder.name}"
        if found := _dataset_files(each.folder, own, staging / place):
            files |= {f"{place}/{name}": path for name, path in found.items()}
            files[f"{place}/{RECORD}"] = _write(staging, f"{place}/{RECORD}", _json(own))
            further[place] = own
    title = str(run["about"].get("title") or run["config"].get("source") or "Dataset")[:120]
    files[CARD] = _write(staging, CARD, dataset_card(folder, run, title, license, further))
    files[RECORD] = _write(staging, RECORD, _json(run))
    return _publication("dataset", "dataset", title, files)


def _dataset_files(folder: Path, run: dict, staging: Path) -> dict[str, Path]:
    """The files of a dataset in its folder, without card and record; none where it has no steps yet."""
    files = {f"{TRAJECTORIES}/{path.name}": path for path in shards(folder)}
    if is_imported(run):
        files = {SAMPLES: folder / SAMPLES} if (folder / SAMPLES).is_file() else {}
    if not files:
        return {}
    load_annotations(folder)  # damaged ones are reported here, not at the next pull
    marks = annotations_path(folder)
    if marks.is_file():
        files[marks.name] = _write(staging, marks.name, marks.read_text(encoding="utf-8"))
    names = {f"{TOKENIZER}/{path.name}": path for path in _model_files(folder / TOKENIZER)}
    return files | {name: _redacted(staging, name, path) for name, path in names.items()}


def _model_files(folder: Path) -> list[Path]:
    found = {path for pattern in MODEL_FILES for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _adapter(run_dir: Path, run: dict, staging: Path, license: str) -> Publication:
    folder = adapter_folder(run_dir)
    check_adapter(folder)
    files = {"adapter_model.safetensors": folder / "adapter_model.safetensors"}
    files["adapter_config.json"] = _redacted(staging, "adapter_config.json", folder / "adapter_config.json")
    files[CARD] = _write(staging, CARD, adapter_card(run | used_adapter(folder), license=license))
    files[RECORD] = _write(staging, RECORD, _json(run))
    return _publication("adapter", "model", f"Adapter of {run['about'].get('expert', 'a model')}"[:120], files)


def _model(run_dir: Path, run: dict, folder: Path, staging: Path, license: str) -> Publication:
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} is not a merged model: config.json or its weights are missing; create one with `merge`."
        )
    check_model(folder)
    files = {path.name: _redacted(staging, path.name, path) for path in _model_files(folder)}
    files[CARD] = _write(staging, CARD, adapter_card(run | used_adapter(folder), merged=True, license=license))
    files[RECORD] = _write(staging, RECORD, _json(run))
    return _publication("merged model", "model", f"Merged {run['about'].get('expert', 'model')}"[:120], files)


def _redacted(staging: Path, name: str, path: Path) -> Path:
    """The file itself, or a redacted copy of a JSON document with private paths."""
    if path.suffix != ".json" or name.endswith(("tokenizer.json", ".safetensors.index.json")):
        return path
    if (document := read_json(path)) is None:
        raise UserError(f"{path} is damaged, so it cannot be published; create it again.")
    # only these keys: a vocabulary has tokens that look like paths
    private = {key: value for key, value in document.items() if key in PATH_KEYS} if isinstance(document, dict) else {}
    if redact(private) == private:
        return path
    return _write(staging, name, _json(document | redact(private)))


#: The keys under which transformers and peft store the path that something was loaded from.
PATH_KEYS = ("base_model_name_or_path", "_name_or_path", "name_or_path", "parent_library", "tokenizer_file")


def _json(document: dict) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _write(staging: Path, name: str, text: str) -> Path:
    write_bytes(staging / name, text.encode(errors="backslashreplace"), advice="Free some space, then publish again.")
    return staging / name


def _publication(kind: str, repo_type: str, title: str, files: dict[str, Path]) -> Publication:
    try:
        sums = {name: sha256(path) for name, path in files.items()}
        sizes = {name: path.stat().st_size for name, path in files.items()}
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}. Check the run.") from None
    return Publication(kind, repo_type, redact_text(title), files, sums, sizes)
