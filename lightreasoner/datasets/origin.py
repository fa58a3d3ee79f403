"""Where the responses of a dataset come from, in sentences, where something other than its expert here wrote them."""

from lightreasoner.formatting import printable


def origin_sentences(run: dict) -> list[str]:
    """Sentences for the card, the page and the terminal, from a run's record; none for a dataset that was sampled."""
    found = run["about"].get("responses")
    if not isinstance(found, dict):
        return []
    count = found["responses"]
    named = ", ".join(found["writers"])
    sentences = [
        f"The {count:,} responses were not sampled here: they were read from the file {found['file']}"
        f"{f', which names {named} as their model' if named else ''}, and scored by both models."
    ]
    if found["texts"]:
        sentences.append(
            f"{found['texts']:,} were given as text and tokenised anew, so their tokens may be others than were "
            "written, and the ends of their turns are not among them."
        )
    if missing := count - found["recorded_prompts"]:
        sentences.append(
            f"For {missing:,} no ids of a prompt were recorded; they were read after the prompt of this software."
        )
    if found["other_prompts"]:
        sentences.append(
            f"For {found['other_prompts']:,} the recorded prompt has other ids than this software would write; the "
            "recorded prompt counts."
        )
    if found["past_the_end"]:
        sentences.append(f"{found['past_the_end']:,} ran on past the end of their turn and were cut there.")
    return [printable(sentence) for sentence in sentences]
