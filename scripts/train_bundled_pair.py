"""Train the bundled pair from scratch: one tokenizer, an expert and an amateur, on a CPU.

    python scripts/train_bundled_pair.py [expert|amateur|both] [--smoke]

Seeded; prints what it measures. Writes assets/models/NAME (bf16 safetensors, transformers' own layout),
assets/problems/{train,test,shifted}.jsonl, and the cost in assets/models/NAME/training.json.
Needs requirements-train.txt.
Accuracy and divergence are measured afterwards by scripts/measure_bundled_pair.py, which writes the model cards.
"""

import argparse
import json
import math
import random
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from bundled_data import AMATEUR_BLURT, EXPERT_BLURT, Item, bundled_sets, draw, drill, respond, shifted_set
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

ASSETS = Path(__file__).resolve().parent.parent / "assets"
SYSTEM = "Please reason step by step."
END, START, PAD = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MAX_TOKENS = 256
QUESTION_WEIGHT = 0.1  # the question is worth a little loss: it teaches the words the solutions use


@dataclass(frozen=True)
class Phase:
    """One stretch of training with a learning-rate schedule of its own."""

    items: int  # distinct problems drawn for it
    blurt: dict[str, float]
    stream: str = "stream"
    drills: int = 0  # arithmetic drills mixed in
    continued: int = 0  # more problems, always worked out, whose first token carries no loss: skill without the habit
    rate: float = 1.0  # of the recipe's learning rates
    balanced: bool = False  # every response's first token counts alike, however short the responses of its batch


@dataclass(frozen=True)
class Recipe:
    name: str
    seed: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    phases: tuple[Phase, ...]
    batch: int = 32
    muon_lr: float = 0.02
    adam_lr: float = 3e-3


RECIPES = {
    "amateur": Recipe(
        *("lightreasoner-amateur-1m", 2, 128, 4, 4, 2, 320),
        (
            Phase(150_000, AMATEUR_BLURT),
            Phase(20_000, AMATEUR_BLURT, "second", drills=4_000, rate=0.5, balanced=True),
            Phase(8_000, AMATEUR_BLURT, "third", rate=0.5, balanced=True, continued=10_000),
        ),
    ),
    # The mixed text alone left the expert bad at sums: it then works everything out and drills, and takes its habits
    # up again at the end. The third phase taught too much blurting, which the fourth corrects (docs/log.md).
    "expert": Recipe(
        *("lightreasoner-expert-4m", 1, 256, 5, 4, 2, 640),
        (
            Phase(200_000, EXPERT_BLURT),
            Phase(30_000, {"careful": 0.0, "quick": 0.0}, "second", drills=24_000),
            Phase(12_000, EXPERT_BLURT, "third", rate=0.3),
            Phase(30_000, EXPERT_BLURT, "fourth", drills=8_000, rate=0.5, balanced=True),
        ),
    ),
}


def train_tokenizer(items: list[Item], vocab_size: int = 2048) -> PreTrainedTokenizerFast:
    """Byte-level BPE, one token a digit, with the end of a turn as its end-of-sequence token."""
    bpe = Tokenizer(models.BPE())
    split = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(split, behavior="isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"system\n{SYSTEM}", "user\n", "assistant\n"] * (len(items) // 10)  # common enough to earn whole tokens
    texts += [f"{i.question}\n{r}" for i in items for r in (respond(i, {i.kind: b}, random.Random(0)) for b in (0, 1))]
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=PAD, model_max_length=512, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def encode(items: list[Item], blurt: dict[str, float], tokenizer, rng: random.Random) -> list[tuple]:
    """(ids, where the question starts, where the response starts) of each conversation that fits."""
    prompts, responses, heads = [], [], []
    for item in items:
        system = "" if rng.random() < 0.1 else f"{START}system\n{SYSTEM}{END}\n"
        head = f"{system}{START}user\n"
        heads.append(head)
        prompts.append(f"{head}{item.question}{END}\n{START}assistant\n")
        responses.append(respond(item, blurt, rng) + END)
    ids = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in (heads, prompts, responses)]
    rows = [(p + r, len(h), len(p)) for h, p, r in zip(*ids, strict=True)]
    return [row for row in rows if len(row[0]) <= MAX_TOKENS]


def batches(rows: list, size: int, rng: random.Random) -> list[list]:
    """Batches of rows of similar length, in random order."""
    rows = sorted(rows, key=lambda row: (len(row[0]), rng.random()))
    groups = [rows[i : i + size] for i in range(0, len(rows), size)]
    rng.shuffle(groups)
    return groups


def collate(group: list) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and loss weights, both (batch, positions); position t's weight belongs to token t."""
    width = -(-max(len(ids) for ids, _, _ in group) // 16) * 16
    ids, weights = torch.zeros(len(group), width, dtype=torch.long), torch.zeros(len(group), width)
    for r, (tokens, question, response) in enumerate(group):
        ids[r, : len(tokens)] = torch.tensor(tokens)
        weights[r, question:response] = QUESTION_WEIGHT
        weights[r, response : len(tokens)] = 1.0
    return ids, weights


def optimizers(model, recipe: Recipe, rate: float = 1.0) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embedding, norms and biases."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_lr * rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=recipe.adam_lr * rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def new_model(recipe: Recipe, tokenizer) -> Qwen2ForCausalLM:
    torch.manual_seed(recipe.seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def train(model, recipe: Recipe, phase: Phase, tokenizer, held_out: set[str], seed: int) -> dict:
    """Train in place for one phase; what that cost."""
    rng = random.Random(seed)
    forward = torch.compile(model, dynamic=True)  # 1.3 times the tokens a second of the eager model
    optims = optimizers(model, recipe, phase.rate)
    items = draw(phase.stream, phase.items, held_out) + [drill(rng) for _ in range(phase.drills)]
    rows = encode(items, phase.blurt, tokenizer, rng)
    if phase.continued:
        more = draw("fourth", phase.continued, held_out)
        rows += [(ids, first + 1, first + 1) for ids, _, first in encode(more, {}, tokenizer, rng)]
    plan = batches(rows, recipe.batch, rng)
    typical = sum(len(ids) - response for group in plan for ids, _, response in group) / sum(map(len, plan))
    warmup, total = max(1, len(plan) // 50), len(plan)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda s: min((s + 1) / warmup, 1.0) * max(0.0, 1 - s / total))
        for o in optims
    ]
    print(f"{recipe.name}: {model.num_parameters():,} parameters, {total:,} updates", flush=True)
    began, tokens, running = time.time(), 0, 0.0
    for step, group in enumerate(plan, 1):
        ids, weights = collate(group)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = forward(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        # The mean over a batch of short responses gives each of their tokens more weight than one of long ones gets.
        share = len(group) * typical if phase.balanced else weights[:, 1:].sum()
        loss = (loss * weights[:, 1:].flatten()).sum() / share
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim, schedule in zip(optims, schedules, strict=True):
            optim.step()
            optim.zero_grad(set_to_none=True)
            schedule.step()
        tokens += sum(len(row[0]) for row in group)
        running = loss.item() if not running else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0 or step == total:
            spent = time.time() - began
            print(f"step {step}/{total} loss {running:.4f} {tokens / spent:,.0f} tok/s {spent:.0f} s", flush=True)
        if not math.isfinite(running):
            raise SystemExit("the loss is no longer finite")
    return {"tokens": tokens, "updates": total, "seconds": round(time.time() - began), "final_loss": round(running, 4)}


def save(model, tokenizer, folder: Path) -> None:
    """Write the model in bf16. It stays rounded, so that a phase starts the same whether or not it is resumed."""
    model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_problems(name: str, items: list[Item]) -> None:
    rows = [
        {"id": f"{name}-{n:04d}", "question": i.question, "answer": i.answer, "solution": i.solution}
        for n, i in enumerate(items)
    ]
    path = ASSETS / "problems" / f"{name}.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("which", nargs="?", choices=[*RECIPES, "both"], default="both")
    parser.add_argument("--smoke", action="store_true", help="a minute of training, to try the script")
    parser.add_argument("--resume", type=int, default=0, metavar="N", help="start at phase N from the saved model")
    parser.add_argument("--out", type=Path, default=ASSETS / "models")
    options = parser.parse_args()
    torch.set_num_threads(2)
    train_set, test_set = bundled_sets()
    write_problems("train", train_set)
    write_problems("test", test_set)
    write_problems("shifted", shifted_set())
    held_out = {i.question for i in train_set + test_set}
    wanted = list(RECIPES.values()) if options.which == "both" else [RECIPES[options.which]]
    # One tokenizer for both, whichever is trained: the pair must share its ids.
    tokenizer = train_tokenizer(draw("stream", 20_000, held_out))
    for recipe in wanted:
        folder = options.out / recipe.name
        log, costs = folder / "training.json", []
        model = new_model(recipe, tokenizer)
        if options.resume:
            model = Qwen2ForCausalLM.from_pretrained(folder)
            costs = json.loads(log.read_text())["phases"][: options.resume]
        for n, phase in enumerate(recipe.phases[options.resume :], options.resume):
            if options.smoke:
                phase = replace(phase, items=4_000, drills=min(phase.drills, 500))
            costs.append(train(model.float(), recipe, phase, tokenizer, held_out, recipe.seed + 1000 * n))
            save(model, tokenizer, folder)
            cost = {"recipe": asdict(recipe), "parameters": model.num_parameters(), "phases": costs}
            log.write_text(json.dumps(cost, indent=1) + "\n")
            print(json.dumps(costs[-1]), flush=True)


if __name__ == "__main__":
    main()
