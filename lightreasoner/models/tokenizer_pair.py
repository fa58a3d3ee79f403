"""What two different tokenizers have in common: the bytes of their tokens, and where the expert's would cut a text.

An amateur with another tokenizer gives probabilities to texts, and texts are read in the expert's tokens
(decoding/cross_tokenizer.py; cf. arXiv 2410.09303, 2506.14123 and 2512.14954). All of it follows from the tokenizers
alone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from lightreasoner.errors import UserError
from lightreasoner.models.token_text import TokenTexts

SAMPLES = (" the", "The", "12", "\n", "a b")  # texts that a tokenizer must give back byte for byte
#: Texts before them, for tokenizers that put a space before the first word. The last one ends in a character that no
#: token has, where the others run together with what follows, as "\n" does with "\n".
ANCHORS = ("", "\n", "a\n", "a\x01")
EXTENSIONS = 4  # longer tokens that are tried
LEAST = 1e-12  # a probability's upper end is not below it
MEMORY = 1 << 17  # cuts that are remembered
ASKED = 64  # questions that are asked for one sum
FINE = 50  # a share that matters is at most so many times smaller than a sum that does
UNASKED, UNDECIDED, JOINED, CUT = -2, -1, 0, 1


CHANGES = (
    "its tokens do not spell the text that was tokenised (it may drop case or spaces), so what the model says about a "
    "text is not known"
)


def anchor_of(tokenizer: Any) -> str | None:
    """What to write before a text so that the last tokens spell it; None for a tokenizer that changes texts."""
    texts = TokenTexts(tokenizer)

    def kept(anchor: str, text: str) -> bool:
        whole = b""
        for id in reversed(tokenizer(anchor + text, add_special_tokens=False)["input_ids"]):
            whole = texts.bytes(id) + whole
            if len(whole) >= len(text):
                break
        return whole == text.encode()

    return next((anchor for anchor in ANCHORS if all(kept(anchor, text) for text in SAMPLES)), None)


class Segmenter:
    """A tokenizer as a way to cut bytes. `bytes_of[id]` is None for control tokens and ids without a token."""

    def __init__(self, tokenizer: Any, rows: int | None = None, ends: frozenset[int] = frozenset()):
        """rows: of the model's output table; tokens beyond it are left out. ends: of the turn, which are no text."""
        self.tokenizer, self.size = tokenizer, min(len(tokenizer), rows or len(tokenizer))
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        texts, named = TokenTexts(tokenizer), set(tokenizer.get_vocab().values())
        ends = ends & tokenizer.added_tokens_decoder.keys()
        self.special = {id for id in range(self.size) if id in ends or texts.special(id)}
        self.bytes_of = [texts.bytes(id) if id in named and id not in self.special else None for id in range(self.size)]
        self.anchor = anchor_of(tokenizer) or ""
        #: The id of each token's bytes: the one that the tokenizer itself writes, where several tokens share them.
        self.id_of: dict[bytes, int] = {}
        for id, own in enumerate(self.bytes_of):
            if own:
                known = self.id_of.setdefault(own, id)
                if known != id and self.encode(own) == [id]:
                    self.id_of[own] = id
        self.longest = max(map(len, self.id_of), default=1)
        self.sorted = sorted(self.id_of)
        self.sorted_ids = np.array([self.id_of[own] for own in self.sorted], np.int64)

    def _ids(self, text: str) -> list[int]:
        if self._fast is not None:  # a third of the time
            return self._fast.encode(text, add_special_tokens=False).ids
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def encode(self, text: bytes) -> list[int] | None:
        """The ids with which the tokenizer writes these bytes; None where they do not spell them."""
        try:
            whole = self._ids(self.anchor + text.decode())
        except UnicodeDecodeError:  # it ends inside a character
            return None
        ids, left = [], len(text)
        for id in reversed(whole):
            if left <= 0:
                break
            own = self.bytes_of[id] if id < self.size else None
            if not own:
                return None
            ids.append(id)
            left -= len(own)
        ids.reverse()
        return ids if b"".join(self.bytes_of[id] for id in ids) == text else None

    def spell(self, text: bytes) -> list[int] | None:
        """Ids that spell these bytes, as the tokenizer writes them where they are text, and byte by byte elsewhere."""
        ids: list[int] = []
        while text:
            try:
                text.decode()
                good, bad, text = text, b"", b""
            except UnicodeDecodeError as error:
                good, bad, text = text[: error.start], text[error.start : error.end], text[error.end :]
            more = self.encode(good) if good else []
            if more is None or not all(bytes([one]) in self.id_of for one in bad):
                return None
            ids += more + [self.id_of[bytes([one])] for one in bad]
        return ids

    def beginning_with(self, prefix: bytes) -> slice:
        """Where the tokens that begin with these bytes lie in `sorted` and `sorted_ids`."""
        return slice(bisect_left(self.sorted, prefix), bisect_right(self.sorted, prefix + b"\xff" * 64))

    def next_bytes(self, prefix: bytes) -> set[int]:
        """The bytes that follow a prefix in longer tokens."""
        found, place = set(), self.beginning_with(prefix)
        at, size = place.start, len(prefix)
        while at < place.stop:
            token = self.sorted[at]
            if len(token) == size:
                at += 1
                continue
            found.add(token[size])
            at = bisect_right(self.sorted, token[: size + 1] + b"\xff" * 64, at, place.stop)
        return found


class Cuts:
    """Whether the expert's tokenizer cuts after one of its tokens, by which token the amateur writes there.

    Each question is asked once, when it is first worth it. answers (tokens,): CUT, JOINED, UNDECIDED or UNASKED.
    """

    def __init__(self, across: AcrossVocabulary, id: int, ids: np.ndarray, begun: bytes, skip: int):
        """ids: the amateur's. What lies behind the expert's token is `begun` and their bytes but for the first ones."""
        self.across, self.id, self.ids, self.begun, self.skip = across, id, ids, begun, skip
        self.answers = np.full(len(ids), UNASKED, np.int8)

    def rest(self, n: int) -> bytes:
        """What lies behind the expert's token with the n-th of the ids."""
        return self.begun + self.across.amateur.bytes_of[int(self.ids[n])][self.skip :]

    def ask(self, shares: np.ndarray, least: float) -> None:
        """Have answers for the largest shares, so that less than `least` in all is unasked; at most ASKED new ones."""
        places = np.flatnonzero(self.answers == UNASKED)
        if not len(places) or (left := float(shares[places].sum())) <= least:
            return
        places = places[shares[places] > least / FINE]
        for n in places[np.argsort(-shares[places], kind="stable")[:ASKED]].tolist():
            kept = self.across.cut(self.id, self.rest(n)) if self.rest(n) else None
            self.answers[n] = UNDECIDED if kept is None else CUT if kept else JOINED
            left -= float(shares[n])
            if left <= least:
                break


class AcrossVocabulary:
    """An expert's and an amateur's tokenizer that differ. Ids without a name are the expert's."""

    def __init__(self, expert: Segmenter, amateur: Segmenter):
        self.expert, self.amateur = expert, amateur
        #: (expert's tokens,) the amateur's id of the same bytes, −1 without one.
        self.identical = np.full(expert.size, -1, np.int64)
        for own, id in expert.id_of.items():
            self.identical[id] = amateur.id_of.get(own, -1)
        added = amateur.tokenizer.get_vocab()
        texts = {id: expert.tokenizer.convert_ids_to_tokens(id) for id in expert.special}
        #: (expert's id, amateur's id) of the control tokens that both have.
        self.control = [(id, added[text]) for id, text in texts.items() if added.get(text) in amateur.special]
        #: Tokens that both have, and whose continuations in longer tokens both have: where the amateur writes such a
        #: token, its text is cut there in the expert's tokens as well.
        self.plain = self.identical >= 0
        for one, other in ((expert, amateur), (amateur, expert)):
            for own in one.id_of.keys() - other.id_of.keys():
                for end in range(1, len(own)):
                    known = expert.id_of.get(own[:end])
                    if known is not None:
                        self.plain[known] = False
        mine, theirs = _numbers(expert), _numbers(amateur)
        #: The expert groups digits by how many follow, and the amateur does not group them so.
        self.counts_ahead = mine != theirs and any(len({own[:1] for own in ways}) > 1 for ways in mine)
        if mine != theirs:  # what a digit's token is depends on those around it
            self.plain &= ~np.array([bool(own and own[-1:].isdigit()) for own in expert.bytes_of])
        #: Every text of the expert's tokens is written in the amateur's alike.
        self.alike = all(self.plain[id] for id in expert.id_of.values()) and len(expert.id_of) == sum(
            map(bool, expert.bytes_of)
        )
        first = np.array([own[0] if own else 256 for own in amateur.bytes_of], np.int64)
        self._by_first = [np.flatnonzero(first == byte) for byte in range(256)]
        #: (expert's tokens,) the first byte of each, 256 for those without text.
        self.expert_first = np.array([own[0] if own else 256 for own in expert.bytes_of], np.int64)
        self.goes_on = lru_cache(MEMORY)(self._goes_on)
        self.amateur_ids = lru_cache(256)(self._amateur_ids)
        self.cut = lru_cache(MEMORY)(self._cut)
        self.cuts = lru_cache(1024)(self._cuts_by_token)
        self.unusual = lru_cache(MEMORY)(self._unusual)
        self.follows = lru_cache(MEMORY)(self._follows)
        self.spelling = lru_cache(MEMORY)(amateur.spell)
        self.settled = lru_cache(MEMORY)(self._settled)

    @cached_property
    def _prefixes(self) -> tuple[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
        """How the tokens begin with each other, as places in the amateur's `sorted`.

        (per token of the amateur's the longest one that it begins with, −1 without one; their places by how many such
        there are; per token of the expert's the longest of the amateur's that it begins with, −1; the first and last
        of those that go on behind it).
        """
        mine, theirs = self.amateur.sorted, self.expert.sorted
        above, depth = np.full(len(mine), -1, np.int64), np.zeros(len(mine), np.int64)
        stem: dict[bytes, tuple[int, int, int]] = {}
        stack: list[tuple[bytes, int]] = []
        at = 0
        for own in sorted({*mine, *theirs}):
            while stack and not own.startswith(stack[-1][0]):
                stack.pop()
            if at < len(mine) and mine[at] == own:
                above[at], depth[at] = (stack[-1][1] if stack else -1), len(stack)
                stack.append((own, at))
                at += 1
            if own in self.expert.id_of:
                stem[own] = (stack[-1][1] if stack else -1, at, self.amateur.beginning_with(own).stop)
        levels = [np.flatnonzero(depth == n) for n in range(1, int(depth.max(initial=0)) + 1)]
        own = np.array([stem.get(text, (-1, 0, 0)) for text in self.expert.bytes_of], np.int64)
        return above, levels, *own.T

    def most(self, p: np.ndarray) -> np.ndarray:
        """(steps, expert's tokens): at most how likely the amateur's text begins with each, 1 for those without text or
        that the amateur cannot write.

        p: the probabilities of the amateur's tokens (steps, output rows). Counted are all tokens that the text of the
        expert's token begins with, and all that begin with it.
        """
        above, levels, stem, first, last = self._prefixes
        along = p[:, self.amateur.sorted_ids].astype(np.float64)
        whole = np.concatenate([np.zeros((len(p), 1)), along.cumsum(-1)], -1)
        for level in levels:
            along[:, level] += along[:, above[level]]
        found = whole[:, last] - whole[:, first] + np.where(stem >= 0, along[:, stem], 0.0)
        found[:, (self.expert_first == 256) | ((stem < 0) & (last == first))] = 1.0
        return found.clip(LEAST, 1.0)

    def parts(self, id: int) -> tuple[str, ...]:
        """The texts of the amateur's tokens that spell one of the expert's; none for one that they cannot spell."""
        own = self.expert.bytes_of[id]
        ids = self.spelling(own) if own else None
        return tuple(self.amateur.bytes_of[one].decode("utf-8", "backslashreplace") for one in ids or ())

    def length(self, ids: list[int]) -> int:
        """How many of the amateur's tokens write these of the expert's."""
        text = self.expert.tokenizer.decode(ids)
        return len(self.amateur.tokenizer(text, add_special_tokens=False)["input_ids"])

    @property
    def shared(self) -> int:
        """How many of the expert's tokens the amateur has, byte for byte."""
        return int((self.identical >= 0).sum())

    def _goes_on(self, text: bytes) -> np.ndarray:
        """(257,) by the first byte of what follows: whether the expert may write the end of a text and it in one token,
        or in other groups of digits.

        Where it may not, the text is cut there, and what follows changes nothing before it.
        """
        table = np.zeros(257, bool)
        if self.counts_ahead and text[-1:].isdigit():
            table[48:58] = True  # further digits move the groups
        for start in range(max(0, len(text) - self.expert.longest + 1), len(text)):
            table[list(self.expert.next_bytes(text[start:]))] = True
        return table

    def _amateur_ids(self, table: bytes) -> np.ndarray:
        """The amateur's tokens that begin with one of the bytes of a table of `goes_on`, as bytes."""
        chosen = [own for own, wanted in zip(self._by_first, table, strict=False) if wanted]
        return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)

    def _settled(self, behind: tuple[int, ...]) -> bool:
        """Whether the expert's tokenizer writes the text of these tokens with them."""
        return self.expert.encode(self._text(behind)) == [*behind]

    def _text(self, ids: tuple[int, ...]) -> bytes:
        return b"".join(self.expert.bytes_of[id] for id in ids)

    def _follows(self, behind: tuple[int, ...], id: int) -> bool:
        """Whether the expert's tokenizer, after these tokens, writes this one as a token of its own, and leaves them as
        they are."""
        found = self.expert.encode(self._text((*behind, id)))
        if len(behind) > 1 and not self.settled(behind):
            return found == [*behind, id] or self.follows(behind[1:], id)
        if behind and self.settled(behind):
            return found == [*behind, id]
        found = found or self.expert.encode(self._text((id,)))
        return bool(found) and found[-1] == id

    def depends(self, behind: tuple[int, ...], ids: Iterable[int]) -> bool:
        """Whether the expert's tokenizer writes these tokens only before some texts, such as those of `ids`: two spaces
        before a digit, and one token of both elsewhere."""
        while len(behind) > 1 and not self.settled(behind):
            text = self._text(behind)
            wholes = (text + (self.expert.bytes_of[id] or b"") for id in ids if id < self.expert.size)
            written = (self.expert.encode(whole) or [] for whole in wholes)
            if self.expert.encode(text) and any(own[: len(behind)] == [*behind] for own in written):
                return True
            behind = behind[1:]
        return False

    def _cut(self, id: int, rest: bytes, ended: bool = False) -> bool | None:
        """Whether the expert's tokenizer cuts between a token and what follows it; None where more text may decide.

        ended: it is known to cut after `rest`.
        """
        own = self.expert.bytes_of[id]
        if self.counts_ahead and not ended and own[-1:].isdigit() and rest.isdigit():
            return None
        if not rest or not self.goes_on(own)[rest[0]]:
            return True
        reached, longer = False, set()  # by a token that begins in `own`: within `rest`, and beyond it
        for size in range(1, len(own) + 1):
            begun = own[len(own) - size :]
            reached = reached or any(begun + rest[:n] in self.expert.id_of for n in range(1, len(rest) + 1))
            longer |= set(self._beyond(begun + rest))
        if not reached and not longer:
            return True
        now = self._cuts(id, rest)
        if now is None or ended:
            return now
        text = own + rest
        for size in range(len(text), 0, -1):  # does it cut as now, if the last token goes on?
            if len(longer) >= EXTENSIONS:
                break
            longer |= set(self._beyond(text[len(text) - size :]))
        return now if all(self._cuts(id, rest + more) is now for more in longer) else None

    def _cuts_by_token(self, id: int, rest: bytes, within: bool) -> Cuts:
        """The questions about a token and `rest` behind it, which the amateur's next token follows. within: that token
        begins with `rest` instead, which ends with the expert's token."""
        if within:
            ids = self.amateur.sorted_ids[self.amateur.beginning_with(rest)]
            longer = np.array([len(self.amateur.bytes_of[one]) > len(rest) for one in ids.tolist()], bool)
            return Cuts(self, id, ids[longer], b"", len(rest))
        return Cuts(self, id, self.amateur_ids(self.goes_on(self.expert.bytes_of[id] + rest).tobytes()), rest, 0)

    def _beyond(self, begun: bytes) -> list[bytes]:
        """What longer tokens of the expert's add to these bytes; at most EXTENSIONS of them."""
        place, found = self.expert.beginning_with(begun), []
        for token in self.expert.sorted[place.start : min(place.stop, place.start + EXTENSIONS + 1)]:
            if len(token) > len(begun):
                found.append(token[len(begun) :])
        return found[:EXTENSIONS]

    def _unusual(self, id: int, rest: bytes) -> bool:
        """Whether the amateur's tokenizer would never write this token and then a text that begins with `rest`.

        Among many tokens that begin so, none is taken to undo the usual way: a model hardly writes what its tokenizer
        would not (arXiv 2410.09303).
        """
        amateur = self.amateur
        text = amateur.bytes_of[id] + rest
        usual = self.spelling(text)
        if usual is None or usual[0] == id:
            return False
        place = amateur.beginning_with(rest)
        if place.stop - place.start > EXTENSIONS:
            return True
        ways = (self.spelling(amateur.bytes_of[id] + token) for token in amateur.sorted[place])
        return not any(way is None or way[0] == id for way in ways)

    def _cuts(self, id: int, rest: bytes) -> bool | None:
        """Whether the expert's tokenizer writes a token as it is before this text; None where the text ends inside a
        character. A token that it would not write alone it need only cut behind."""
        own, at = self.expert.bytes_of[id], 0
        found = self.expert.encode(own + rest)
        if found is None:
            return None
        if self.settled((id,)):
            return found[0] == id
        for token in found:
            at += len(self.expert.bytes_of[token])
            if at >= len(own):
                break
        return at == len(own)


def _numbers(own: Segmenter) -> list[list[tuple[bytes, ...]]]:
    """How a tokenizer writes some numbers of 9, 10 and 11 digits."""
    numbers = [one * 11 for one in (b"12", b"123", b"57", b"907")]
    return [
        [tuple(own.bytes_of[id] or b"" for id in own.encode(number[:size]) or ()) for size in (9, 10, 11)]
        for number in numbers
    ]


def check_across(*tokenizers: Any) -> None:
    """Raises UserError where a text cannot be read in the expert's and in the amateur's tokens."""
    for role, tokenizer in zip(("expert", "amateur"), tokenizers, strict=True):
        if anchor_of(tokenizer) is None:
            raise UserError(
                f"Their tokenizers differ, and the {role}'s cannot be compared with another: {CHANGES}. Choose an "
                "amateur of the expert's own family."
            )


@lru_cache(2)  # a pair is loaded anew for every trace, and 262,144 tokens take seconds
def across_vocabulary(
    expert_tokenizer: Any,
    amateur_tokenizer: Any,
    expert_rows: int | None = None,
    amateur_rows: int | None = None,
    expert_ends: frozenset[int] = frozenset(),
    amateur_ends: frozenset[int] = frozenset(),
) -> AcrossVocabulary:
    """What two tokenizers that differ have in common. `*_rows`: rows of the models' output tables, if known. `*_ends`:
    tokens that end a turn, which some tokenizers do not mark as control tokens.

    Raises UserError where a text cannot be read in both.
    """
    check_across(expert_tokenizer, amateur_tokenizer)
    expert = Segmenter(expert_tokenizer, expert_rows, expert_ends)
    return AcrossVocabulary(expert, Segmenter(amateur_tokenizer, amateur_rows, amateur_ends))
