"""Computes how long to wait before the next attempt: exponential backoff with full jitter.

Each delay is random between zero and a bound that doubles with each attempt. The first delay is random too, so that
clients that lost the same server do not reconnect all at once (M. Brooker, "Exponential Backoff And Jitter", AWS,
2015).
"""

import random

import attrs

__all__ = ["Backoff"]


@attrs.define
class Backoff:
    """The delays of one client.

    Attributes:
        rng: random number generator for the delays; seed it to make them reproducible.
        base: upper bound of the first delay, in seconds.
        cap: upper bound of every delay, in seconds.
        attempts: number of delays since the last :meth:`reset`.
    """

    rng: random.Random = attrs.field(factory=random.Random, repr=False)
    base: float = attrs.field(default=0.5, validator=attrs.validators.gt(0))
    cap: float = attrs.field(default=15.0, validator=attrs.validators.gt(0))
    attempts: int = 0

    def next(self, *, at_least: float = 0.0) -> float:
        """Compute the seconds to wait before the next attempt.

        Args:
            at_least: minimum in seconds, as requested by the server; the random delay is added to it.

        Returns:
            The delay in seconds.
        """
        # The exponent is limited so that the float does not overflow; the cap is reached long before.
        bound = min(self.cap, self.base * 2.0 ** min(self.attempts, 64))
        self.attempts += 1
        return at_least + self.rng.uniform(0, bound)

    def reset(self) -> None:
        """Start over with the first delay; call this after a success."""
        self.attempts = 0
