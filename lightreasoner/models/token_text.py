"""The bytes and the display text of tokens."""

import re
from typing import Any

from lightreasoner.compat.transformers import byte_characters

SPACE = "▁"  # how sentencepiece writes a space
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # how sentencepiece writes a byte that is part of a character


class TokenTexts:
    """Texts and bytes of a tokenizer's tokens, each text computed once. Methods never raise, for any id."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self._added = {id: token.content for id, token in added.items()}
        self._special = {id for id, token in added.items() if token.special} | set(tokenizer.all_special_ids)
        self._byte_level = self._has("Ġ") and not self._has(SPACE)  # byte-level BPE writes a space as Ġ
        self._sentencepiece = self._has(SPACE)
        self._byte_of = byte_characters() if self._byte_level else {}
        self._texts: dict[int, str] = {}

    def text(self, id: int) -> str:
        r"""The token's text in a response, with its spaces and line breaks.

        Part of a character appears as its bytes (`\xe2\x80`), an id without a token as `[id]`.
        """
        if not _is_id(id):
            return self.bytes(id).decode("utf-8", "backslashreplace")
        if id not in self._texts:
            self._texts[id] = self.bytes(id).decode("utf-8", "backslashreplace")
        return self._texts[id]

    def bytes(self, id: int) -> bytes:
        """The bytes that the token adds to the response."""
        token = self._token(id) if _is_id(id) else None
        if token is None:
            return f"[{id}]".encode("utf-8", "surrogatepass")
        if id in self._added:
            return self._added[id].encode("utf-8", "surrogatepass")
        if self._byte_level:
            known = self._byte_of
            return b"".join(bytes([known[c]]) if c in known else c.encode("utf-8", "surrogatepass") for c in token)
        if self._sentencepiece:
            if part := _BYTE.fullmatch(token):
                return bytes([int(part[1], 16)])
            token = token.replace(SPACE, " ")
        return token.encode("utf-8", "surrogatepass")

    def special(self, id: int) -> bool:
        """Whether the token is a control token, such as the end of a turn."""
        return _is_id(id) and id in self._special

    def _has(self, token: str) -> bool:
        id = self.tokenizer.convert_tokens_to_ids(token)
        return id is not None and self._token(id) == token  # unknown tokens get the id of <unk>

    def _token(self, id: int) -> str | None:
        """The token's entry in the vocabulary, or None."""
        try:
            token = self.tokenizer.convert_ids_to_tokens(id)
        except (IndexError, KeyError):  # tokenizers written in Python
            return None
        return token if isinstance(token, str) and token else None


def _is_id(id: Any) -> bool:
    return isinstance(id, int) and not isinstance(id, bool) and 0 <= id < 2**31
