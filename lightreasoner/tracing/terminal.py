"""A trace in a terminal: the response coloured by KL, underlined above β; and how many steps diverge and teach."""

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from lightreasoner.formatting import percent, plural, printable
from lightreasoner.paper import ALPHA, TEACHES
from lightreasoner.tracing.events import EndEvent, Event, PromptEvent, Step, StepsEvent

#: (lowest KL in nats, xterm-256 background), from pale to deep orange, under black text.
SHADES = ((0.1, 230), (0.4, 223), (0.8, 216), (1.5, 209), (3.0, 202))
REASONS = {
    "stop": "the expert ended its turn",
    "length": "the token limit was reached",
    "given": "a given response was scored",
}


def paint(text: str, kl: float, beta: float) -> str:
    """The text with the ANSI codes for its KL."""
    shade = next((code for bound, code in reversed(SHADES) if kl >= bound), None)
    codes = ([f"48;5;{shade}", "30"] if shade else []) + (["4"] if kl > beta else [])
    if not codes:
        return text
    # a colour across a newline would fill the rest of the line
    return "\n".join(f"\x1b[{';'.join(codes)}m{line}\x1b[0m" if line else "" for line in text.split("\n"))


def tuning_summary(steps: list[Step]) -> str:
    """One line on what training changed; empty where no tuned expert was compared."""
    shifts = [step.shift for step in steps if step.shift]
    if not shifts:
        return ""
    changed, mean = sum(s.tuned_changed for s in shifts), sum(s.tuned_kl for s in shifts) / len(shifts)
    return (
        f"training changed the top-1 token at {changed} of {plural(len(shifts), 'step')} · mean KL(E′ ‖ E) {mean:.3f}\n"
    )


def across_summary(steps: list[Step]) -> str:
    """One line on what was compared, for a pair across tokenizers; empty for any other."""
    shares = [step.score.compared for step in steps if step.score.compared is not None]
    if not shares:
        return ""
    whole = sum(bool(step.score.ids) for step in steps)
    return (
        f"the tokenizers differ: KL is a lower bound · {percent(sum(shares) / len(shares), 1)} of the expert's "
        f"probability compared · the plausible set is known at {whole} of {plural(len(steps), 'step')}\n"
    )


def writer_summary(steps: list[Step]) -> str:
    """One line on what a contrast wrote in place of the writer's own choice; empty where none wrote."""
    if not any(step.expert_choice for step in steps):
        return ""
    if steps[0].amateur_choice:
        taken = sum(step.token_id != step.amateur_choice.token_id for step in steps)
        return f"{taken} of {plural(len(steps), 'token')} taken over from the expert · {percent(taken / len(steps))}\n"
    changed = sum(step.token_id != step.expert_choice.token_id for step in steps)
    return f"the contrast changed {changed} of {plural(len(steps), 'token')} · {percent(changed / len(steps))}\n"


def readers_summary(steps: list[Step], names: Sequence[str], beta: float) -> str:
    """A line on each further amateur. names: of these."""
    lines = []
    for n, name in enumerate(names if steps else ()):
        kls = [step.other_kls[n] for step in steps]
        above = sum(kl > beta for kl in kls)
        lines.append(f"{printable(name)}: {plural(above, 'step')} above β · mean KL {sum(kls) / len(kls):.3f}\n")
    return "".join(lines)


def _ended(event: EndEvent, steps: list[Step]) -> str:
    by_both = event.finish_reason == "stop" and any(step.expert_choice for step in steps)
    return "the turn ended" if by_both else REASONS[event.finish_reason]


def teaching_summary(signals: list[float]) -> str:
    """How many of the selected steps teach, and the loss that training would start from; empty without any.

    signals: the teaching signal of each selected step, in nats."""
    if not signals:
        return ""
    teaching = sum(signal >= TEACHES for signal in signals)
    verb = "teaches" if teaching == 1 else "teach"
    return f"{teaching:,} of them {verb} · mean KL(target ‖ expert) {sum(signals) / len(signals):.3f} · "


def print_events(
    events: Iterator[Event],
    beta: float,
    out: TextIO = sys.stdout,
    alpha: float = ALPHA,
    others: Sequence[str] = (),
    cap: float | None = None,
) -> Iterator[Event]:
    """Print a trace as it is generated and pass its events on. Without colours, steps above β are put in ⟦ ⟧.

    others: the names of further amateurs."""
    colour = (out.isatty() or "FORCE_COLOR" in os.environ) and "NO_COLOR" not in os.environ
    steps: list[Step] = []
    for event in events:
        if isinstance(event, StepsEvent):
            steps += event.steps
            for step in event.steps:
                text, kl = printable(step.text), step.score.kl
                out.write(paint(text, kl, beta) if colour else f"⟦{text}⟧" if kl > beta else text)
            out.flush()
        elif isinstance(event, EndEvent):
            scores, across = [step.score for step in steps], across_summary(steps)
            kls = [score.kl for score in scores]
            above = [score for score in scores if score.kl > beta]
            share = percent(len(above) / len(kls)) if kls else "0 %"
            signals = [score.teaching(alpha, cap) for score in above if score.ids]
            disagreements = plural(sum(not score.agree for score in scores), "top-1 disagreement")
            out.write(
                f"\n\n{len(above):,} of {plural(len(kls), 'step')} above β = {beta:g} nats · {share} · "
                f"{teaching_summary(signals)}{disagreements} · "
                f"mean KL {'≥ ' if across else ''}{sum(kls) / max(1, len(kls)):.3f}\n"
                f"{across}{readers_summary(steps, others, beta)}{tuning_summary(steps)}{writer_summary(steps)}"
                f"{_ended(event, steps)} · {len(kls) / max(event.seconds, 1e-9):.1f} tokens per second\n"
            )
        elif isinstance(event, PromptEvent):
            out.write("\n" if colour else "")
        yield event
