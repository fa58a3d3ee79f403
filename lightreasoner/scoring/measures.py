"""The one table of step measures: what is stored, traced, exported and drawn per step, in this order."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One number per step. Logarithms are natural, so divergences, entropies and log-probabilities are in nats."""

    key: str  # the field of StepScore or TuningShift, the column of a shard, the key in a trace
    name: str
    says: str  # for the page
    full: float | None = None  # nats at which the page's colour is deepest; None: the page does not colour by it
    type: type | None = float  # None: nothing stored, it is computed from what is
    taken: bool = False  # belongs to the taken token, and is None where that lies outside the shared vocabulary
    tuned: bool = False  # exists only where a tuned expert is compared
    target: bool = False  # of the contrastive target, so it depends on α; computed from the step's candidates


KL = "How much the amateur would be surprised by what the expert expects, in nats. Above β a step is selected."
REVERSE_KL = "The same the other way round: large where the amateur expects what the expert rules out."
TUNED_KL = "How much the expert would be surprised by what the tuned expert E′ expects, in nats. 0: nothing moved."
TEACHING = (
    "How far the contrastive target at this α is from what the expert expects already, in nats. Training starts from "
    "its mean over the selected steps; 0: nothing is taught."
)
RATIO = "log πE − log πA of the token that was taken; below 0 is shown as 0."
RANK = "1 plus the number of tokens that are more likely than the taken one."
MEASURES = (
    Measure("kl", "KL(expert ‖ amateur)", KL, 2),
    Measure("reverse_kl", "KL(amateur ‖ expert)", REVERSE_KL, 2),
    Measure("js", "Jensen–Shannon", "A symmetric distance between the two, from 0 to log 2 ≈ 0.693 nats.", 0.693),
    Measure("expert_entropy", "Expert entropy", "How undecided the expert is, in nats. 0: it is certain.", 3),
    Measure("amateur_entropy", "Amateur entropy", "How undecided the amateur is, in nats.", 3),
    Measure("expert_logprob", "log πE of the token", "In nats, for the token that was taken.", taken=True),
    Measure("amateur_logprob", "log πA of the token", "In nats, for the token that was taken.", taken=True),
    Measure("expert_rank", "Rank under the expert", RANK, type=int, taken=True),
    Measure("amateur_rank", "Rank under the amateur", RANK, type=int, taken=True),
    Measure("agree", "Same top-1 token", "Both models' most likely tokens are the same.", type=bool),
    Measure("teaching", "Teaching signal: KL(target ‖ expert)", TEACHING, 1, type=None, target=True),
    Measure("ratio", "Log-ratio of the token", RATIO, 3, type=None),
    Measure("tuned_kl", "What training moved: KL(E′ ‖ E)", TUNED_KL, 1, tuned=True),
    Measure("tuned_reverse_kl", "KL(E ‖ E′)", "The same the other way round, in nats.", tuned=True),
    Measure("tuned_changed", "Top-1 changed", "Training changed the expert's top-1 token.", type=bool, tuned=True),
    Measure("tuned_logprob", "log πE′ of the token", "In nats, for the token that was taken.", taken=True, tuned=True),
    Measure("tuned_rank", "Rank under the tuned expert", RANK, type=int, taken=True, tuned=True),
)

#: The key of how much of the expert's probability was compared at a step of a pair across tokenizers; other pairs have
#: none. The divergences are then lower bounds.
COMPARED = "compared"

#: Keys: of StepScore's numbers, of TuningShift's, of those in floating point, of those that belong to the taken token,
#: of those that depend on α.
STEP_MEASURES = tuple(m.key for m in MEASURES if m.type and not m.tuned)
TUNING_MEASURES = tuple(m.key for m in MEASURES if m.tuned)
FLOAT_MEASURES = tuple(m.key for m in MEASURES if m.type is float and not m.tuned)
TAKEN_MEASURES = tuple(m.key for m in MEASURES if m.taken)
TARGET_MEASURES = tuple(m.key for m in MEASURES if m.target)


def taken_measures(across: bool) -> tuple[str, ...]:
    """Those that a taken token lacks that was not compared: of a pair across tokenizers the amateur's alone."""
    return tuple(name for name in TAKEN_MEASURES if not across or name.startswith("amateur"))
