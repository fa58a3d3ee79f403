"""An amateur with another tokenizer than the expert's, read in the expert's tokens along a response.

With N(S) the probability that the amateur's text begins with S and that the expert's tokenizer cuts after S, the
amateur gives the expert's token v after the text S the probability

    q(v | S) = N(S·v) / N(S).

N sums over the ways in which the amateur can write the text: its tokens up to S·v, and longer tokens that reach beyond
its end and are cut there by the expert's tokenizer. Ways that were not read are bounded by the probability of their
beginning, so each probability lies in an interval, and those of narrow intervals are called compared. Of any other
token its upper end is known: all that begins like it. The divergence is bounded with these
(scoring/divergence_bounds.py). Cf. arXiv 2410.09303, 2506.14123, 2512.14954.
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from lightreasoner.decoding.tree_reader import Asking, Continuation
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.tokenizer_pair import CUT, FINE, JOINED, UNDECIDED, AcrossVocabulary, Cuts
from lightreasoner.scoring.divergence import log_probs

TOLERANCE = 0.05  # of a sum: what unread ways of writing a text may hold; a tenth of it is not looked at at all
PIECE = 16  # steps read at once
OVERLAP = 3  # tokens before a step at which longer ones may begin that reach into it
PASSES = 1  # of reading what a piece still lacks
LEAST = 1e-10  # a probability that is not looked for
MOST_FOLLOWED = 48  # undecided tokens that are looked at one by one
WIDEST = 5.0  # nats: a wider interval is not more urgent
LEAST_LOG = -30.0  # log p of a token that is not plausible
BEHIND = 3  # of the expert's tokens decide with the next one whether its tokenizer writes them so
MOST_INSIDE = 12  # tokens of a step that are read in one of them


@dataclass
class StepReading:
    """What the amateur says of one step, in the expert's ids. All of it assumes the smallest N of the text before."""

    sums: dict[int, tuple[float, float]] = field(default_factory=dict)  # token → smallest and largest log q
    slack: float = 0.0  # by how much all of log q may be too high
    end: float | None = None  # log q of the end of the turn
    #: (log-probabilities (amateur's tokens,), shift, mask): log q of a plain token is that of its amateur id + shift,
    #: where the mask (tokens,) allows.
    tail: tuple[torch.Tensor, float, np.ndarray | None] | None = None
    #: (257,) by its first byte: what the amateur's tokens that begin before the step may add to any token's q.
    across: np.ndarray | None = None


@dataclass(eq=False)
class _Node:
    """A place in the tree of the amateur's tokens."""

    text: bytes  # from the beginning of the piece's window
    above: _Node | None = None
    token: int = -1  # that leads here
    place: int = -1  # among the tokens of the sequence that are read; −1 beside it
    weight: float = math.nan  # log P of its tokens
    logp: np.ndarray | None = None  # (output rows,) of what follows, once it was read
    children: dict[int, _Node] = field(default_factory=dict)

    def child(self, token: int, text: bytes) -> _Node:
        """The node that follows with a token of this text; made where there is none."""
        if token not in self.children:
            self.children[token] = _Node(self.text + text, self, token)
        return self.children[token]


@dataclass
class _Step:
    """One step of a piece."""

    token: int
    offset: int  # of its text, in bytes
    behind: tuple[int, ...]  # the expert's last tokens before it
    base: int  # the last place of the spine at or before it
    fast: bool  # so far each of the expert's tokens is one of the amateur's, with the same continuations
    text: bytes = b""  # from the beginning of the piece's window
    root: _Node | None = None  # from which all that reaches the step is found
    wanted: dict[int, float] = field(default_factory=dict)  # tokens that the amateur can spell → the expert's log p
    sums: dict[int, _Sum] = field(default_factory=dict)


Behind = dict[tuple[_Node, int], float]  # after which node and token something was not read, and how much


@dataclass
class _Sum:
    """log N of a text: at least and at most."""

    log: float = -math.inf
    most: float = math.inf
    behind: Behind = field(default_factory=dict)


class AcrossRow:
    """One response. `reading` takes its next tokens and says what the amateur gives to them and to others."""

    def __init__(self, across: AcrossVocabulary, loaded: LoadedModel, prompt: list[int], read: int):
        """read: how many of the prompt's first tokens are read already, at most all but its last one."""
        self.across, self.prompt = across, prompt
        self.room = loaded.max_positions or math.inf  # tokens that the amateur reads at most
        self.full = False  # the response has come to the end of that
        rows = loaded.model.get_output_embeddings().weight.shape[0]
        self.ends = sorted(id for id in loaded.end_ids if id < rows)
        self.text = b""  # of the response so far
        self.behind: tuple[int, ...] = ()  # the expert's last tokens, at most BEHIND, none before the end of a turn
        self.total = 0.0  # log N of the text so far; NaN where it is not known
        self.slack = 0.0  # by how much that may be too low
        self.spine: list[int] = []  # the amateur's tokens of the text so far
        self.spells: list[bytes | None] = []  # their bytes; None where they are not those of the text
        self.at = [0]  # where each begins and the last one ends, in bytes
        self.weights = [0.0]  # log P up to there
        self.fixed = 0  # how many of them are not tokenised again
        self.ids = prompt[:read]  # that were read so far, the prompt's included
        self.kept: list[tuple[int, torch.Tensor]] = []  # the last places that were read, with their log-probabilities
        self.reads = [0, 0]  # tokens of the sequence, and beside it
        self.tolerance = TOLERANCE

    def copy(self, ahead: AcrossRow | None = None) -> AcrossRow:
        """The same place of the same response, to go on from it otherwise. ahead: one that went on from there."""
        other = copy.copy(self)
        if ahead:
            other.ids, other.kept = ahead.ids, ahead.kept
        for name, value in vars(other).items():
            if isinstance(value, list):
                setattr(other, name, list(value))
        return other

    def reading(
        self, tokens: list[int], wanted: list[dict[int, float]], expert_ends: frozenset[int]
    ) -> Asking[list[StepReading]]:
        """Ask for what must be read, and return readings of the next steps; of those beyond the amateur's context they
        say nothing.

        tokens: the expert's; wanted: per step, those to be compared beside the taken one, with the expert's log p.
        """
        if self.full:
            return [StepReading() for _ in tokens]
        most = len(self.prompt) + len(self.spine) + sum(len(self._bytes(id)) for id in tokens)  # a token for each byte
        if len(tokens) > 1 and most > self.room:  # to the last step that can be read
            found = []
            for id, more in zip(tokens, wanted, strict=True):
                found += yield from self.reading([id], [more], expert_ends)
            return found
        begin = len(self.text)
        steps, text = self._steps(tokens, expert_ends)
        first = self._first(begin)
        alike = steps[-1].fast and self._plain(steps[-1].token)
        last = steps[-1].base if alike else len(self.spine)
        if len(self.prompt) + last > self.room:
            self.full = True
            return [StepReading() for _ in tokens]
        spine = self._spine_nodes(first, last, text)
        planned: dict[_Node, None] = {}
        for step, more in zip(steps, wanted, strict=True):
            step.text, step.root = text[self.at[first] : step.offset], self._root(spine, step.base, first)
            for v, log_p in {step.token: LEAST_LOG, **more}.items():
                text_token = v < self.across.expert.size and self.across.expert.bytes_of[v] and v not in expert_ends
                if text_token and self._plan(step, spine[step.base - first], v, planned):
                    step.wanted[v] = log_p
        rows = yield from self._read(first, last, spine, self._within(planned))
        for _ in range(PASSES):
            for step in steps:
                for v in step.wanted:
                    if not (step.fast and self._plain(v)) and not (v in step.sums and self._known(step.sums[v])):
                        step.sums[v] = self._sum(step, v)
            if not (lacking := self._lacking(steps)):
                break
            yield from self._read_beside(lacking)
        else:
            for step in steps:
                step.sums |= {v: self._sum(step, v) for v, one in step.sums.items() if not self._known(one)}
        readings = [self._reading(step, spine[step.base - first], rows[step.base - first]) for step in steps]
        self.text, self.behind = text, self._after(steps[-1].behind, tokens[-1], expert_ends)
        return readings

    # --- the steps ---

    def _plain(self, id: int) -> bool:
        return bool(id < self.across.expert.size and self.across.plain[id])

    def _steps(self, tokens: list[int], expert_ends: frozenset[int]) -> tuple[list[_Step], bytes]:
        """The next steps, and the text to their end, which is written in the amateur's tokens."""
        text, offsets, steps = self.text, [], []
        for id in tokens:
            offsets.append(len(text))
            text += b"" if id in expert_ends else self._bytes(id)
        self._write(text)
        behind, fast = self.behind, self.total == self._weight(self._base(len(self.text)))
        for id, offset in zip(tokens, offsets, strict=True):
            base = self._base(offset)
            fast = fast and self.at[base] == offset and (not behind or self._plain(behind[-1]))
            steps.append(_Step(id, offset, behind, base, fast))
            fast = fast and self._plain(id) and base < len(self.spine) and self.spine[base] == self.across.identical[id]
            behind = self._after(behind, id, expert_ends)
        return steps, text

    def _after(self, behind: tuple[int, ...], id: int, expert_ends: frozenset[int]) -> tuple[int, ...]:
        """_Step.behind of the step after one with this token."""
        text = id < self.across.expert.size and self.across.expert.bytes_of[id] and id not in expert_ends
        return (*behind, id)[-BEHIND:] if text else ()

    # --- the amateur's tokens of the text, and what is read ---

    def _bytes(self, id: int) -> bytes:
        """What a token adds to the text; a control token as it is written."""
        own = self.across.expert.bytes_of[id] if id < self.across.expert.size else None
        return self.across.expert.tokenizer.decode([id]).encode("utf-8", "replace") if own is None else own

    def _write(self, text: bytes) -> None:
        """Write the text in the amateur's tokens. What these cannot spell, it reads as its tokenizer has it."""
        amateur, start = self.across.amateur, self.at[self.fixed]
        whole = text[start:]
        while _broken(whole):
            whole = whole[:-1]
        ids = amateur.spell(whole)
        if foreign := ids is None:
            found = amateur.tokenizer(whole.decode("utf-8", "replace"), add_special_tokens=False)["input_ids"]
            ids = [id for id in found if id < amateur.size]
        spells = [None if foreign else amateur.bytes_of[id] for id in ids]
        spine = self.spine[: self.fixed] + ids
        same = _common(self.spine, spine)
        self.spine, self.spells, self.at = spine, self.spells[: self.fixed] + spells, self.at[: self.fixed + 1]
        for own in spells:
            self.at.append(start + len(whole) if foreign else self.at[-1] + len(own))
        self.weights = self.weights[: same + 1]
        self.fixed = len(spine) if foreign else self.fixed

    def _base(self, offset: int) -> int:
        """The last place of the spine at or before an offset of the text."""
        return bisect_right(self.at, offset) - 1

    def _weight(self, place: int) -> float:
        return self.weights[place] if place < len(self.weights) else math.nan

    def _first(self, offset: int) -> int:
        """The first place of the spine whose log-probabilities are needed: some tokens before this offset."""
        return max(0, min(self._base(offset) - OVERLAP, len(self.weights) - 1))

    def _spine_nodes(self, first: int, last: int, text: bytes) -> list[_Node]:
        """The nodes of the spine from a place on, not yet read. last: the last place that will be."""
        start, nodes = self.at[first], []
        for k in range(first, len(self.spine) + 1):
            if nodes and self.spells[k - 1] is not None:
                node = nodes[-1].child(self.spine[k - 1], self.spells[k - 1])
            else:  # nothing that the text spells leads here
                node = _Node(text[start : self.at[k]])
            node.place = len(self.prompt) + k - 1 if k <= last else -1
            nodes.append(node)
        return nodes

    def _root(self, spine: list[_Node], base: int, first: int) -> _Node:
        """The node of the spine from which all that reaches a step is found."""
        node = spine[base - first]
        for _ in range(OVERLAP):
            node = node.above or node
        return node

    def _plan(self, step: _Step, node: _Node, v: int, planned: dict[_Node, None]) -> bool:
        """Whether the amateur can spell a token; notes what must be read for it."""
        across, begun = self.across, step.text[len(node.text) :]
        if begun or not across.plain[v]:
            path = across.spelling(begun + across.expert.bytes_of[v])
            if path is None:
                return False
            for id in path:
                node = node.child(id, across.amateur.bytes_of[id])
                if node.place < 0:
                    planned[node] = None
        return True

    def _read(self, first: int, last: int, spine: list[_Node], planned: list[_Node]) -> Asking[torch.Tensor]:
        """Read the spine up to a place, with what was planned beside it; its rows from `first` on (places, tokens)."""
        read = _common(self.ids[len(self.prompt) :], self.spine)
        kept = {place: row for place, row in self.kept if first <= place <= min(read, last)}
        start = next((k for k in range(first, last + 1) if k not in kept), last + 1)
        chain = [*self.prompt, *self.spine[:last]]
        begun = min(len(self.ids), len(self.prompt) + start - 1)
        drop, self.ids = len(self.ids) - begun, chain
        branches = self._branches(planned)
        logits = yield Continuation(drop, chain[begun:], last + 1 - start, branches)
        self.reads[0] += len(chain) - begun
        logp = log_probs(logits[:, : self.across.amateur.size])
        beside = len(logp) - len(planned)
        known = [kept[place][None] for place in range(first, start)]
        rows = torch.cat([*known, logp[:beside]]) if known else logp[:beside]
        self.kept = [(place, rows[place - first].clone()) for place in range(first, last + 1)][-OVERLAP - 1 :]
        host = logp[beside:].cpu().numpy()
        for node, row in zip([*spine[: last + 1 - first], *planned], [*rows.cpu().numpy(), *host], strict=True):
            node.logp = row
        for k in range(len(self.weights) - 1, min(last + 1, len(self.spine))):
            self.weights.append(self.weights[k] + float(spine[k - first].logp[self.spine[k]]))
        for node, weight in zip(spine, self.weights[first:], strict=False):
            node.weight = weight
        for node in planned:
            node.weight = node.above.weight + float(node.above.logp[node.token])
        return rows

    def _read_beside(self, nodes: list[_Node]) -> Asking[None]:
        """Read more places beside the spine, each with those of its way that are no longer in the cache."""
        needed: dict[_Node, None] = {}
        for node in nodes:
            way = [node]
            while way[-1].above.place < 0:
                way.append(way[-1].above)
            needed |= dict.fromkeys(reversed(way))
        listed = self._within(needed)
        logits = yield Continuation(0, [], 0, self._branches(listed))
        logp = log_probs(logits[:, : self.across.amateur.size]).cpu().numpy()
        for node, row in zip(listed, logp, strict=True):
            node.logp = row
            node.weight = node.above.weight + float(node.above.logp[node.token])

    def _within(self, nodes: dict[_Node, None]) -> list[_Node]:
        """Those that lie within the amateur's context. nodes: parents before children."""
        places: dict[_Node, int] = {}
        for node in nodes:
            places[node] = places.get(node.above, node.above.place) + 1
        return [node for node, place in places.items() if place < self.room]

    def _branches(self, nodes: list[_Node]) -> list[tuple[int, int]]:
        """The nodes as branches of the reader, parents before children."""
        places: dict[_Node, int] = {}
        found = []
        for node in nodes:
            found.append((places.get(node.above, node.above.place), node.token))
            places[node] = -len(found)
        self.reads[1] += len(found)
        return found

    def _lacking(self, steps: list[_Step]) -> list[_Node]:
        """What to read so that more targets are known: of the tokens whose ratio of both models' probabilities is the
        least certain, where most of what their sums may lack lies."""
        found: dict[_Node, None] = {}
        for step in steps:
            open_ = [(v, one) for v, one in step.sums.items() if one.behind and not self._known(one)]
            scale = self.weights[step.base]  # without it, a long text overflows
            ratios = {v: step.wanted[v] - one.most + scale for v, one in open_}
            wide = {v: ratios[v] + math.log(min(one.most - one.log, WIDEST)) for v, one in open_}
            left = MOST_INSIDE
            for v, one in sorted(open_, key=lambda found: -wide[found[0]]):
                most = math.exp(one.most - scale)
                lacks = sum(one.behind.values()) - self.tolerance / 2 * most
                for (node, id), share in sorted(one.behind.items(), key=lambda key: -key[1]):
                    if left <= 0 or lacks <= 0:
                        break
                    way = self._way(node.child(id, self.across.amateur.bytes_of[id]), step, v)
                    left, lacks = left - sum(child not in found for child in way), lacks - share
                    found |= dict.fromkeys(way)
        return [node for node in found if node.logp is None]

    def _way(self, node: _Node, step: _Step, v: int) -> list[_Node]:
        """A node, and those behind it through which the usual way from there to the end of a token leads."""
        found, amateur = [node], self.across.amateur
        rest = (step.text + self.across.expert.bytes_of[v])[len(node.text) :]
        for id in (self.across.spelling(rest) or ())[:-1] if rest else ():
            found.append(found[-1].child(id, amateur.bytes_of[id]))
        return found

    # --- sums over the ways of writing a text ---

    def _sum(self, step: _Step, v: int) -> _Sum:
        """N of the text of a step with a token after it."""
        across, amateur = self.across, self.across.amateur
        own, scale = across.expert.bytes_of[v], self.weights[step.base]
        whole = step.text + own
        alike = int(across.identical[v]) if across.plain[v] else -1
        total, unread, behind, longer = 0.0, 0.0, {}, []
        pending, ended = [step.root], []
        while pending:
            node = pending.pop()
            weight, rest = math.exp(min(node.weight - scale, 60.0)), whole[len(node.text) :]
            if not rest:
                ended.append((weight, node))
                continue
            known = alike if rest == own else -1
            for size in range(1, min(len(rest) + 1, amateur.longest + 1)):
                id = amateur.id_of.get(rest[:size])
                if id is None:
                    continue
                child, share = node.children.get(id), weight * math.exp(float(node.logp[id]))
                if id == known:
                    total += share
                elif child is not None and child.logp is not None:
                    pending.append(child)
                elif size == len(rest) or not across.unusual(id, rest[size:]):
                    unread += share
                    behind[node, id] = share
            if len(rest) < amateur.longest and len(ids := across.cuts(v, rest, True).ids):
                longer.append((weight * np.exp(node.logp[ids].astype(np.float64)), node))
        asked = [(across.cuts(v, whole[len(node.text) :], True), shares) for shares, node in longer]
        most = max([total, *(weight for weight, _ in ended), *(float(shares.max()) for _, shares in asked)])
        least = self.tolerance / 10 * most + LEAST
        for weight, node in ended:
            kept, unsure = self._cut_after(v, node, b"", weight, behind, least)
            total, unread = total + kept, unread + unsure
        for (cuts, shares), (_, node) in zip(asked, longer, strict=True):
            kept, unsure = self._cut_behind(cuts, node, shares, behind, least)
            total, unread = total + kept, unread + unsure
        low, high = (scale + math.log(n) if n > 0 else -math.inf for n in (total, total + unread))
        return _Sum(low, high, behind)

    def _known(self, one: _Sum) -> bool:
        return math.isfinite(one.log) and one.most - one.log <= math.log1p(self.tolerance)

    def _cut_after(
        self, v: int, node: _Node, rest: bytes, weight: float, behind: Behind, least: float
    ) -> tuple[float, float]:
        """(the share of a weight with which the expert's tokenizer cuts after v, what of it is not known), by what the
        amateur writes after the node, which ends `rest` behind v. least: a part of the sum that is not looked at."""
        if weight <= least:
            return 0.0, weight
        cuts = self.across.cuts(v, rest, False)
        shares = weight * np.exp(node.logp[cuts.ids].astype(np.float64))
        kept, unsure = self._cut_behind(cuts, node, shares, behind, least)
        other = max(0.0, weight - float(shares.sum()))
        return kept + other * (self.across.cut(v, rest, True) is True), unsure

    def _cut_behind(
        self, cuts: Cuts, node: _Node, shares: np.ndarray, behind: Behind, least: float
    ) -> tuple[float, float]:
        """The same for the tokens that are asked about, which the amateur writes after the node with these shares."""
        cuts.ask(shares, least)
        kept = float(shares[cuts.answers == CUT].sum())
        open_ = np.flatnonzero((cuts.answers != CUT) & (cuts.answers != JOINED) & (shares > 0.0))
        unsure = float(shares[open_].sum())
        if unsure <= least:
            return kept, unsure
        places = open_[cuts.answers[open_] == UNDECIDED]
        for n in places[np.argsort(-shares[places], kind="stable")[:MOST_FOLLOWED]].tolist():
            share, id = float(shares[n]), int(cuts.ids[n])
            child = node.children.get(id)
            if share <= least / FINE:
                break
            if child is None or child.logp is None:
                behind[node, id] = share
                continue
            here, hidden = self._cut_after(cuts.id, child, cuts.rest(n), share, behind, least)
            kept, unsure = kept + here, unsure - share + hidden
        return kept, max(unsure, 0.0)

    # --- what comes of it ---

    def _reading(self, step: _Step, node: _Node, row: torch.Tensor) -> StepReading:
        """Divide by N of the text before the step, and go on to the next. node, row: of the step's base, with the
        amateur's log-probabilities there."""
        across, base, found, id = self.across, step.base, StepReading(), step.token
        in_place = self.at[base] == step.offset
        if math.isnan(self.total) and in_place and base and self.spells[base - 1] is None:
            self.total = self.weights[base]  # what comes before is only read
        if not step.fast and across.depends(step.behind, [id, *step.wanted]):
            self.total = math.nan  # it holds texts in which the expert's tokens before the step are others
        if math.isfinite(self.total):
            found.slack = self.slack
            for v, one in step.sums.items():
                low = one.log if across.follows(step.behind, v) else -math.inf
                found.sums[v] = (low - self.total, one.most - self.total)
            if in_place:
                shift = self.weights[base] - self.total
                found.tail = (row, shift, None if step.fast else self._untouched(step))
                found.across = self._reaching(step)
                if self.ends and self._written_so(step):
                    found.end = float(np.logaddexp.reduce(node.logp[self.ends].astype(np.float64))) + shift
        self.slack = 0.0
        if step.fast and self._plain(id):
            self.total = self.weights[base] + float(node.logp[across.identical[id]])
        elif id in step.sums and math.isfinite(step.sums[id].log):
            self.total, self.slack = step.sums[id].log, step.sums[id].most - step.sums[id].log
        else:
            self.total = math.nan
        return found

    def _written_so(self, step: _Step) -> bool:
        """Whether the amateur's tokenizer ends a text that ends before the step as it goes on there; spaces before a
        word it may not."""
        ids = self.across.spelling(step.text) if step.text and not step.fast else None
        return not ids or self.spells[step.base - 1] is None or ids[-1] == self.spine[step.base - 1]

    def _untouched(self, step: _Step) -> np.ndarray:
        """(the expert's tokens,) those into which no longer token of the amateur's reaches, and which the expert's
        tokenizer does not join with what is before them."""
        across, amateur, barred = self.across, self.across.amateur, np.zeros(257, bool)
        if step.behind:
            barred |= across.goes_on(across.expert.bytes_of[step.behind[-1]])
        for _, rest in self._before(step):
            barred[list(amateur.next_bytes(rest))] = True
        return ~barred[across.expert_first]

    def _reaching(self, step: _Step) -> np.ndarray | None:
        """StepReading.across of a step; None where no token of the amateur's reaches beyond its text."""
        amateur, found = self.across.amateur, np.zeros(257)
        for node, rest in () if step.fast else self._before(step):
            place = amateur.beginning_with(rest)
            ids, shift = amateur.sorted_ids[place], node.weight - self.total
            shares = np.exp(node.logp[ids].astype(np.float64) + shift)
            for token, share in zip(amateur.sorted[place], shares.tolist(), strict=True):
                found[token[len(rest)] if len(token) > len(rest) else 256] += share
        found[256] = 0.0
        return found if found.any() else None

    def _before(self, step: _Step) -> Iterator[tuple[_Node, bytes]]:
        """The places of the spine before a step from which its text may be overrun, with the text from there."""
        node = step.root
        while node is not None and (rest := step.text[len(node.text) :]):
            yield node, rest
            below = node.children.values()
            node = next((child for child in below if step.text.startswith(child.text)), None)


def _broken(text: bytes) -> bool:
    """Whether a text ends inside a character."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.end == len(text) and "unexpected end" in error.reason
    return False


def _common(one: list[int], other: list[int]) -> int:
    """How many first elements two lists share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))
