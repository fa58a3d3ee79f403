"""The check that prompt and response fit into the models' context."""

from collections.abc import Iterable

from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import Pair
from lightreasoner.settings import Settings


def check_lengths(pair: Pair, settings: Settings, prompt: int, given: int, budget: int, *more: LoadedModel) -> None:
    """Raises UserError unless prompt, given response and `budget` new tokens fit into the pair and `more` models."""
    if prompt > settings.max_prompt_tokens:
        most = settings.max_prompt_tokens
        raise UserError(f"The problem has {prompt:,} tokens; at most {most:,} are read. Shorten it.")
    if given > settings.max_new_tokens:
        raise UserError(f"The response has {given:,} tokens; at most {settings.max_new_tokens:,} are read. Shorten it.")
    check_context((pair.expert, pair.amateur, *more), prompt, given, budget)


def check_context(models: Iterable[LoadedModel], prompt: int, given: int, budget: int) -> None:
    """Raises UserError unless prompt, given response and `budget` new tokens fit into these models."""
    for loaded in models:
        if loaded.max_positions and prompt + given + budget > loaded.max_positions:
            room = loaded.max_positions - prompt - given
            advice = f"lower the token limit to {room} or less" if room > 0 and budget else "shorten the text"
            raise UserError(
                f"{loaded.ref} can read {loaded.max_positions:,} tokens, but this needs {prompt + given + budget:,} "
                f"({prompt:,} of prompt); {advice}."
            )
