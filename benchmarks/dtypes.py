"""What 16 bits do to a pair: to KL, to the selection of steps, and to the gradients of LoRA, against float32.

    python -m benchmarks.dtypes [--pair NAME | --expert REF --amateur REF] [--problems 12] [--tokens 64]

The expert writes greedy responses in float32. Every dtype then reads the same tokens, so that steps can be compared one
by one, with its output head in the model's dtype and in float32. A gradient is that of the training loss by the
adapter's matrices over some trajectories; its error is relative to its length.
"""

import gc
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.measuring import pair_parser
from lightreasoner.cli.pairs import pair_refs
from lightreasoner.decoding.forward_pass import base_model, forward
from lightreasoner.decoding.generate import greedy_generate
from lightreasoner.models.adapters import add_lora, linear_names
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.devices import DTYPES, release_memory
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import load_pair
from lightreasoner.models.prompts import pair_prompts
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.problems.stream import load_problems
from lightreasoner.scoring.divergence import score_steps
from lightreasoner.settings import Settings, from_environment
from lightreasoner.training.loss import PackedExample, Target, collate, step_logits, step_losses

TRAINED = 4  # trajectories whose gradient is compared


@dataclass(frozen=True)
class Read:
    """What one dtype makes of the responses: all steps in one row, and the flat gradient of the adapter."""

    kl: np.ndarray  # (steps,) nats
    favourite: np.ndarray  # (steps,) the expert's most likely token
    tied: np.ndarray  # (steps,) bool: it shares the first place
    gradient: torch.Tensor | None = None


@contextmanager
def rounded_head(model):
    """The model with logits in its own dtype, as transformers computes them."""
    head = base_model(model).get_output_embeddings()
    widened = type(head)
    head.__class__ = torch.nn.Linear
    try:
        yield
    finally:
        head.__class__ = widened


@torch.inference_mode()
def scored(pair, prompts: tuple[list[int], list[int]], response: list[int]) -> tuple[torch.Tensor, list]:
    """(the expert's logits over the shared vocabulary, the score of each step) of a response."""
    expert, amateur = (
        forward(loaded, [[*prompt, *response[:-1]]], keep=len(response))[0]
        for loaded, prompt in zip((pair.expert, pair.amateur), prompts, strict=True)
    )
    own, taken = pair.alignment.expert(expert), [pair.alignment.to_shared(token) for token in response]
    return own, score_steps(own, pair.alignment.amateur(amateur), taken)


def read(pair, prompts: list, responses: list[list[int]]) -> Read:
    """Measure every step of these responses."""
    kl, favourite, tied = [], [], []
    for own, response in zip(prompts, responses, strict=True):
        expert, scores = scored(pair, own, response)
        kl += [score.kl for score in scores]
        favourite += expert.argmax(-1).tolist()
        tied += ((expert == expert.amax(-1, keepdim=True)).sum(-1) > 1).tolist()
    return Read(np.array(kl), np.array(favourite), np.array(tied))


def examples(pair, prompts: list, responses: list[list[int]]) -> list[PackedExample]:
    """Training examples of the first responses: contrastive targets at their steps above β, or at all without any."""
    made = []
    for own, response in list(zip(prompts, responses, strict=True))[:TRAINED]:
        targets = []
        for step, score in enumerate(scored(pair, own, response)[1]):
            ids, _, _, weights = score.support(ALPHA)
            if score.kl > BETA and len(ids) > 1:
                targets.append(Target(step, [pair.alignment.to_expert(id) for id in ids], weights))
        if targets:
            made.append(PackedExample([*own[0], *response], len(own[0]), tuple(targets)))
    return made


def gradient(loaded: LoadedModel, trained: list[PackedExample]) -> torch.Tensor | None:
    """The flat gradient of the loss by a new adapter, whose second matrices are not 0. Changes the model."""
    names = tuple(name for name in ("q_proj", "v_proj") if name in linear_names(loaded.model))
    if not trained or not names:
        return None
    model = add_lora(loaded.model, 8, 16, 0.0, names, 0).to(loaded.device)
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # drawn on the CPU, so that every device and dtype has the same
            weight.data.copy_(0.01 * torch.randn(weight.shape))
    for example in trained:
        batch = collate([example]).to(loaded.device)
        (step_losses(step_logits(model, batch), batch, len(loaded.tokenizer)).sum() / 64).backward()
    return torch.cat([p.grad.float().flatten().cpu() for p in model.parameters() if p.requires_grad])


def table(expert: str, amateur: str, settings: Settings, problems: int, tokens: int, source: str) -> list[str]:
    reference, first, trained, prompts, responses = None, None, [], [], []
    lines = [
        "| dtype | head | mean KL | mean \\|ΔKL\\| | p99 | largest | selections that flip | other favourite | tied | "
        "gradient's error |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in ("float32", "bfloat16", "float16"):
        pair = load_pair(expert, amateur, LoadedModels(replace(settings, dtype=name)))
        if reference is None:
            chosen = load_problems(source, limit=problems).problems
            prompts = [pair_prompts(pair, problem.question) for problem in chosen]
            responses = greedy_generate(pair.expert, [prompt for prompt, _ in prompts], tokens)
            trained = examples(pair, prompts, responses)
        found = {"float32": read(pair, prompts, responses)}
        if name != "float32":
            with rounded_head(pair.expert.model), rounded_head(pair.amateur.model):
                found[name] = read(pair, prompts, responses)
        slope = gradient(pair.expert, trained)
        reference, first = reference or found["float32"], slope if first is None else first
        for head, this in found.items():
            apart = np.abs(this.kl - reference.kl)
            flips = ((this.kl > BETA) != (reference.kl > BETA)).sum()
            error = "" if slope is None or head != "float32" else f"{float((slope - first).norm() / first.norm()):.2g}"
            lines.append(
                f"| {name} | {head} | {this.kl.mean():.3f} | {apart.mean():.2g} | {np.quantile(apart, 0.99):.2g} | "
                f"{apart.max():.2g} | {flips} of {len(apart)} | {(this.favourite != reference.favourite).mean():.1%} | "
                f"{this.tied.mean():.1%} | {error} |"
            )
        del pair
        gc.collect(), release_memory()
    return lines


def main() -> None:
    options = pair_parser(__doc__, "bundled-test", problems=12, tokens=64).parse_args()
    assert set(DTYPES) == {"float32", "bfloat16", "float16"}
    _, expert, amateur = pair_refs(options)
    settings = from_environment()
    print(f"{expert} against {amateur}, {options.problems} problems of {options.source}\n")
    print("\n".join(table(expert, amateur, settings, options.problems, options.tokens, options.source)))


if __name__ == "__main__":
    main()
