"""What the tests send to a cluster's workers, which find it by its name."""

from __future__ import annotations

from lightreasoner.errors import UserError


class Refusing:
    """A worker that always gives the same sentence."""

    def __init__(self, why: str):
        self.why = why

    def __call__(self, payload):
        raise UserError(self.why)
