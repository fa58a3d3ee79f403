"""One model solves a batch of problems, greedily, and nothing else is measured."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.models.loading import LoadedModel

MOVE_SHARE = 1 / 8  # rows that ended leave the batch once they are this part of it: moving costs about a step


@torch.inference_mode()
def greedy_generate(
    loaded: LoadedModel, prompts: list[list[int]], max_new_tokens: int, checkpoint: Callable[[], None] = lambda: None
) -> list[list[int]]:
    """Greedy responses to these prompts, the end of the turn included; one that lacks it was cut off.

    Raw logits, padding rows of the vocabulary never win. `checkpoint` is called between steps and may raise.
    """
    vocabulary = len(loaded.tokenizer)
    decoder = BatchDecoder(loaded, len(prompts))
    decoder.prefill([prompt[:-1] for prompt in prompts])
    responses: list[list[int]] = [[] for _ in prompts]
    rows, ended = list(range(len(prompts))), set()
    unread = torch.tensor([prompt[-1] for prompt in prompts], device=loaded.device)
    for _ in range(max_new_tokens):
        checkpoint()
        unread = decoder.step(unread)[:, :vocabulary].float().argmax(-1)  # (rows,)
        for place, token in enumerate(unread.tolist()):
            if place not in ended:
                responses[rows[place]].append(token)
                if token in loaded.end_ids:
                    ended.add(place)
        if len(ended) == len(rows):
            break
        if len(ended) > MOVE_SHARE * len(rows):
            staying = torch.tensor([n for n in range(len(rows)) if n not in ended], device=loaded.device)
            decoder.select(staying)
            unread, rows, ended = unread[staying], [rows[n] for n in staying.tolist()], set()
    return responses
