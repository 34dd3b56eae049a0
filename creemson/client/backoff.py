"""How long to wait before the next attempt: exponential backoff with full jitter.

Each delay is random between nothing and a bound that doubles, the first one too, so that clients that lost
the same server do not come back all at once (M. Brooker, "Exponential Backoff And Jitter", AWS, 2015).
"""

import random

import attrs

__all__ = ["Backoff"]


@attrs.define
class Backoff:
    """The delays of one client.

    Attributes:
        dice: where the chance comes from.
        base: bound of the first delay, in seconds.
        cap: bound of any delay, in seconds.
        attempts: delays since :meth:`reset`.
    """

    dice: random.Random = attrs.field(factory=random.Random, repr=False)
    base: float = attrs.field(default=0.5, validator=attrs.validators.gt(0))
    cap: float = attrs.field(default=15.0, validator=attrs.validators.gt(0))
    attempts: int = 0

    def next(self, *, at_least: float = 0.0) -> float:
        """Seconds to wait before the next attempt.

        Args:
            at_least: what the other side asked for; chance comes on top.
        """
        # Beyond 2**64 the cap has long been reached, and a float overflows.
        bound = min(self.cap, self.base * 2.0 ** min(self.attempts, 64))
        self.attempts += 1
        return at_least + self.dice.uniform(0, bound)

    def reset(self) -> None:
        """It went well: the next delay is a first one."""
        self.attempts = 0
