"""Adds an amateur to a stored dataset: it reads the stored responses, and a dataset of its measures is written.

Where the candidates of every step are stored, it reads alone, measured against these; else, or where exact numbers are
asked for, the expert reads along. Its measures are then those of a run of its own, since the responses are read in the
batches and steps in which they were written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from lightreasoner.datasets.amateurs import FOLDER, amateur_datasets, check_amateurs, further_folder, model_title
from lightreasoner.datasets.imported import is_imported
from lightreasoner.datasets.step_table import read_details, read_steps
from lightreasoner.datasets.tokenizer import dataset_tokenizer, save_tokenizer
from lightreasoner.datasets.trajectories import (
    COMPARED,
    complete_shards,
    is_as_written,
    read_shard,
    shards,
    write_shard,
)
from lightreasoner.decoding.amateur_reader import Responses, begin_reading
from lightreasoner.decoding.generate import GIVEN_CHUNK, DecodingConfig, GenerationRow, Given
from lightreasoner.decoding.reading_check import check_reading
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.identity import describe_models, differences
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import Pair, describe_pair, load_pair
from lightreasoner.models.prompt_settings import PromptSettings, prompt_of
from lightreasoner.models.prompts import prompt_ids, prompt_marks, render
from lightreasoner.models.vocabulary import VocabularyAlignment, added_tokens, align_vocabularies
from lightreasoner.problems.conversations import stored_context
from lightreasoner.problems.rows import Problem
from lightreasoner.progress import Progress, while_loading
from lightreasoner.sampling.sampler import SamplingCounts, sample_batch
from lightreasoner.sampling.trajectory_table import MEASURED, measure_columns
from lightreasoner.scoring.against_stored import measure_against_stored
from lightreasoner.scoring.divergence import NotADistribution
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import RECORD, add_to_run, begin_run, read_run, stored_run, versions

FROM_CANDIDATES = "measured against stored candidates"  # in the configuration of an amateur that read alone
OTHER_TOKENS = "this amateur has another tokenizer, and its text is read in all of the expert's tokens"


@dataclass(frozen=True)
class Added:
    folder: Path  # of its measures
    responses: int
    steps: int
    above_beta: int
    why_expert: str  # why the expert read along; empty where it did not

    @property
    def sentences(self) -> list[str]:
        counts = f"{self.responses:,} responses, {self.steps:,} steps, {self.above_beta:,} of them above β"
        counts += f", in {self.folder}"
        if self.why_expert:
            return [counts, f"The expert read along: {self.why_expert}."]
        return [
            counts,
            "The amateur read alone, measured against the stored candidates of the expert. The contrastive targets are "
            "exact; KL leaves out how the rest of the vocabulary is spread, so some steps above β are missed (0.4 and "
            "1.9 % of them with two amateurs of the bundled expert). --with-expert measures all of it.",
        ]


def add_amateur(folder: Path, ref: str, settings: Settings, progress: Progress, with_expert: bool = False) -> Added:
    """Let one more amateur read the responses of a dataset. What it has read already is not read again.

    with_expert: the expert reads along even where it need not. Raises UserError, StopRequested.
    """
    run, ref = readable_dataset(folder), ref.strip()
    own = further_folder(folder, ref)
    begun = stored_run(own)["config"]
    others = [each.amateur for each in amateur_datasets(folder) if each.folder != own]
    if ref in others:
        raise UserError(f"{ref} is an amateur of this dataset already; name another one.")
    check_amateurs([*others, ref])
    why = "it was asked to" if with_expert else _unstored(run)
    if begun:  # it goes on as it began
        why = "" if begun.get(FROM_CANDIDATES) else why or "it did when this amateur was added"
        if with_expert and not why:
            raise UserError(
                f"{own} holds measures against stored candidates; delete that folder, then add the amateur with the "
                "expert."
            )
    say, models = while_loading(progress, (own / RECORD).exists()), LoadedModels(settings)
    reader: _Alone | _WithExpert
    if not why:
        amateur = models.get(ref, say)
        try:
            reader = _Alone(folder, run, amateur)
            why = reader.why_not()
        except UserError:  # of its vocabulary; what the two tokenizers have in common is seen with the expert
            why = OTHER_TOKENS
        if why and begun:
            raise UserError(f"{ref} can no longer be measured against the stored candidates: {why}.")
    if why:
        reader = _WithExpert(folder, run, load_pair(run["config"]["expert"], ref, models, say), settings, progress)
    begin_run(own, "dataset", *reader.record(ref))
    save_tokenizer(reader.tokenizer, own)
    paths = complete_shards(folder)
    done = [path for path in paths if is_as_written(own, path.stem)]
    total, read = len(paths), len(done)
    progress.status("Reading the stored responses")
    progress.update(read, total)
    for path in paths:
        if path in done:
            continue
        progress.checkpoint()
        table = read_shard(path)
        columns = reader.measure(path, table)
        if COMPARED.name in table.column_names:
            table = table.drop_columns([COMPARED.name])
        if COMPARED.name in columns:
            table = table.append_column(COMPARED, columns.pop(COMPARED.name))
        for name, column in columns.items():
            table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
        write_shard(own, path.stem, table)
        read += 1
        progress.update(read, total)
    return _save(run, own, why, progress)


def readable_dataset(folder: Path) -> dict[str, Any]:
    """The record of a dataset whose responses an amateur can read. Raises UserError."""
    run = read_run(folder, "dataset")
    if is_imported(run):
        raise UserError(
            f"{folder} was imported: it holds selected steps of one amateur and no whole response, so another amateur "
            "has nothing to read. Sample or score the responses anew."
        )
    parent = Path(folder).absolute().parent
    if parent.name == FOLDER and (parent.parent / RECORD).is_file():
        raise UserError(
            f"{folder} holds the measures of a further amateur; name the dataset around it, {parent.parent}."
        )
    if not shards(folder):
        raise UserError(f"{folder} has no responses yet; resume the job that samples it, then add the amateur.")
    return run


def _unstored(run: dict[str, Any]) -> str:
    """Why the stored candidates do not suffice; empty where they may."""
    floor = run["config"].get("beta_floor")
    if floor != 0:
        above = f"only of steps above {floor:g} nats" if isinstance(floor, int | float) else "not of every step"
        return f"the details are stored {above}"
    pair = run["about"].get("pair") or {}
    if pair.get("across"):
        return "the dataset's amateur has another tokenizer than the expert, so not all candidates are stored"
    if not isinstance(pair.get("shared_vocabulary"), int):
        return "the dataset does not say which vocabulary its numbers are of"
    return ""


def _save(run: dict, own: Path, why: str, progress: Progress) -> Added:
    counts = SamplingCounts(run["config"].get("samples_per_problem") or 1)
    counts.recount(own)
    found = Added(own, counts.responses, counts.steps, counts.above_beta, why)
    size = sum(path.stat().st_size for path in shards(own))
    new = {"steps": counts.steps, "above_beta": counts.above_beta, "bytes": size, "seconds": round(counts.seconds, 2)}
    if run.get("result"):
        add_to_run(own, result=run["result"] | new)
    progress.result(responses=counts.responses, **new)
    return found


def _prompt_of(run: dict) -> PromptSettings:
    return prompt_of(run["config"].get("prompt"))


class _Alone:
    def __init__(self, folder: Path, run: dict, amateur: LoadedModel):
        self.run, self.amateur = run, amateur
        self.tokenizer = dataset_tokenizer(folder, run)
        rows = amateur.model.get_output_embeddings().weight.shape[0]
        check_reading(amateur)
        self.alignment: VocabularyAlignment = align_vocabularies(self.tokenizer, amateur.tokenizer, None, rows)
        self.alignment = self.alignment.to_devices(torch.device("cpu"), amateur.device)
        self._same_tokens = added_tokens(self.tokenizer) <= added_tokens(amateur.tokenizer)

    def why_not(self) -> str:
        known = self.run["about"]["pair"]["shared_vocabulary"]
        if self.alignment.size != known:
            return (
                f"this amateur shares {self.alignment.size:,} tokens with the expert, and the stored numbers are of a "
                f"vocabulary of {known:,}"
            )
        return ""

    def record(self, ref: str) -> tuple[dict, dict]:
        """(config, about) of the amateur's dataset."""
        return _record(self.run, ref, {"amateur": self.amateur}, {FROM_CANDIDATES: True})

    def measure(self, path: Path, table: pa.Table) -> dict[str, pa.Array]:
        """The columns of the amateur's measures of a shard's responses."""
        lists = read_steps(path, ("response_ids", "expert_entropy", "expert_logprob", "expert_rank"), ("steps",))
        details = read_details(lists, path)
        if len(details.step) != int(lists.starts[-1]):
            raise UserError(
                f"The shard {path} holds the details of {len(details.step):,} of {lists.starts[-1]:,} steps, so the "
                "stored candidates do not suffice; add the amateur with --with-expert."
            )
        every = np.arange(len(details.step))
        ids = details.padded(details.ids, every, -1).astype(np.int64)
        logs = details.padded(details.expert_logprobs, every, -np.inf)
        shared = self._to_shared(ids)
        if (shared[np.isfinite(logs)] < 0).any():
            raise UserError(
                f"A stored candidate is no token of the amateur {self.amateur.ref}, so the stored candidates do not "
                "suffice; add the amateur with --with-expert."
            )
        taken = self._to_shared(lists.values["response_ids"].astype(np.int64))
        parts, tokens = [], table["response_ids"].to_pylist()
        for row, prompt in enumerate(self._prompts(table)):
            here = slice(lists.starts[row], lists.starts[row + 1])
            parts += self._read(prompt, tokens[row], shared[here], logs[here], taken[here], path)
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        inside = np.arange(ids.shape[1]) < np.diff(details.offsets)[:, None]
        found |= {"ids": details.ids, "expert_logprobs": details.expert_logprobs}
        found |= {"amateur_logprobs": found.pop("candidates")[inside], "counts": np.diff(details.offsets)}
        for name in ("expert_entropy", "expert_logprob", "expert_rank"):
            found[name] = np.nan_to_num(lists.values[name])
        return measure_columns(Responses(tokens, found, taken >= 0))

    def _to_shared(self, ids: np.ndarray) -> np.ndarray:
        """The expert's ids as shared ones, −1 for those that the amateur lacks."""
        distinct, back = np.unique(ids, return_inverse=True)
        known = [self.alignment.to_shared(int(id)) if id >= 0 else 0 for id in distinct]
        return np.array([-1 if id is None else id for id in known], np.int64)[back].reshape(ids.shape)

    def _prompts(self, table: pa.Table):
        """The amateur's prompt of each response."""
        own = _prompts(self.tokenizer, str(self.run["config"]["expert"]), self.amateur, self.alignment, self.run)
        for row in table.select(["question", "context", "prompt_ids"]).to_pylist():
            yield row["prompt_ids"] if self._same_tokens else own(row)

    @torch.inference_mode()
    def _read(self, prompt: list[int], tokens: list[int], ids, logs, taken, path: Path):
        """The measures of a response, GIVEN_CHUNK steps at a time."""
        decoder, (unread,) = begin_reading(self.amateur, [prompt], True, len(tokens))
        for first in range(0, len(tokens), GIVEN_CHUNK):
            here = slice(first, first + GIVEN_CHUNK)
            read, places, unread = self.alignment.retokenize_chunk(unread, tokens[here])
            logits = decoder.read([read], keep=len(read) - places[0])[0]
            logits = self.alignment.amateur(logits[[place - places[0] for place in places]])
            columns = (ids[here].clip(0), logs[here], taken[here].clip(0))
            try:
                yield measure_against_stored(logits, *map(torch.from_numpy, columns))
            except NotADistribution as error:
                raise UserError(
                    f"A model's output is not a distribution while it reads {path.name}: {error}. Load it in another "
                    "dtype, or use another model; what was read before is saved."
                ) from error


class _WithExpert:
    def __init__(self, folder: Path, run: dict, pair: Pair, settings: Settings, progress: Progress):
        self.run, self.pair, self.progress = run, pair, progress
        self.tokenizer = pair.expert.tokenizer
        if changed := differences(run["about"], "expert", pair.expert):
            raise UserError(
                f"The expert {pair.expert.ref} is not the one that wrote {folder}: its {' and '.join(changed)} changed "
                "since. Sample a new dataset."
            )
        config = run["config"]
        self.sampled = "max_new_tokens" in config  # else the responses were scored
        self.decoding = DecodingConfig(
            max_new_tokens=config.get("max_new_tokens") or 1,
            beta_floor=config.get("beta_floor", 0.0),
            stop=tuple(config.get("stop") or ()),
        )
        self._rows = run["about"].get("batch_size") or 64

    def record(self, ref: str) -> tuple[dict, dict]:
        """(config, about) of the amateur's dataset."""
        models = {"expert": self.pair.expert, "amateur": self.pair.amateur}
        config, about = _record(self.run, ref, models, {})
        return config, about | {"pair": describe_pair(self.pair)}

    def measure(self, path: Path, table: pa.Table) -> dict[str, pa.Array]:
        """The columns of the amateur's measures of a shard's responses."""
        pair, items = self.pair, []
        own = _prompts(self.tokenizer, str(pair.expert.ref), pair.amateur, pair.alignment, self.run, bool(pair.across))
        for row in table.to_pylist():
            problem = Problem(row["problem_id"], row["question"], row["answer"], context=stored_context(row["context"]))
            given = Given(row["response_ids"], row["finish_reason"], self.sampled)
            prompt = row["prompt_ids"] if pair.same_special_tokens else own(row)
            items.append(GenerationRow(problem, row["sample"], row["prompt_ids"], prompt, given))
        checkpoint = lambda ended: self.progress.checkpoint()  # noqa: E731
        (found,), self._rows = sample_batch(
            [pair], (items, (0,)), self.decoding, self.progress, checkpoint, max(self._rows, 1)
        )
        names = (*MEASURED, COMPARED.name) if pair.across else MEASURED
        return {name: found[name].combine_chunks() for name in names}


def _prompts(
    tokenizer: Any, expert: str, amateur: LoadedModel, alignment: VocabularyAlignment, run: dict, across: bool = False
) -> Callable[[dict], list[int]]:
    """A function of a stored row: the prompt of an amateur with other control tokens than the expert.

    Where the stored prompt is not the one that this software writes, its tokens are spelled in the amateur's; an
    amateur with another tokenizer (across) is then refused.
    """
    settings = _prompt_of(run)

    def prompt(row: dict) -> list[int]:
        asked = (row["question"], settings, stored_context(row["context"]))
        try:
            usual = render(tokenizer, expert, *asked).ids == row["prompt_ids"]
        except UserError:
            usual = False
        if not usual and across:
            raise UserError(
                f"The prompt of the problem {row['problem_id']} is stored in the expert's ids and is not the one that "
                f"this software writes, so what {amateur.ref}, which has another tokenizer, should read is not known; "
                "choose an amateur of the expert's own family."
            )
        return prompt_ids(amateur, *asked) if usual else alignment.retokenize(row["prompt_ids"])[0]

    return prompt


def _record(run: dict, ref: str, models: dict[str, LoadedModel], more: dict) -> tuple[dict, dict]:
    """(config, about): the dataset's own with another amateur, as a run that samples with both writes it."""
    config, about = dict(run["config"]), {name: value for name, value in run["about"].items() if name != "resumed"}
    dtypes = {str(model.dtype).removeprefix("torch.") for model in models.values()}
    config |= {"amateur": ref, "batch_size": about.get("batch_size", config.get("batch_size"))} | more
    config["dtype"] = ", ".join(sorted(dtypes))
    found = describe_models(models)
    for kind in ("fingerprints", "marks"):
        kept = {name: mark for name, mark in about.get(kind, {}).items() if not name.startswith("amateur")}
        about[kind] = kept | found[kind]
    about["marks"] |= prompt_marks({"amateur": models["amateur"]}, _prompt_of(run))
    return config, about | {"versions": versions(), "title": f"{about.get('title', 'Dataset')} · {model_title(ref)}"}
