"""The common scale factor: how much slower (or faster) the host is just now than its profile says."""

from __future__ import annotations

import math

_SMALLEST, _LARGEST = math.log(1 / 8), math.log(8.0)


class ScaleFactor:
    """A robust, fast average of log(observed / profile), common to all configurations and lengths.

    Each ratio moves the logarithm by ``gain * clip(innovation)``.  The clip starts at `clip` and doubles with every
    further innovation beyond it on the same side: one straggler hardly counts, a host that halves its speed is
    followed within about ten requests.  Without news for `forget_ns` the factor halves its way back to 1 (that is, to
    the trim, see `server.routing.trim`), once per further `forget_ns`: otherwise a server that refuses everything,
    because it was slow once, would never learn that it no longer is.
    """

    def __init__(self, *, gain: float = 0.2, clip: float = 0.1, forget_ns: int = 5_000_000_000) -> None:
        self._gain = gain
        self._clip = clip
        self._forget_ns = forget_ns
        self._log = 0.0
        self._value = 1.0
        self._run = 0
        self._seen_ns: int | None = None
        self._sure_until_ns: float = math.inf

    def value(self, now_ns: int) -> float:
        """The factor at `now_ns`, in [1/8, 8]."""
        return self._value if now_ns <= self._sure_until_ns else math.exp(self._log * self.memory(now_ns))

    def observe(self, ratio: float, now_ns: int) -> None:
        """Learn from one ratio of observed to profile time; one that is not positive and finite is passed over."""
        if not (ratio > 0.0 and math.isfinite(ratio)):
            return
        log = self._log * self.memory(now_ns)
        innovation = math.log(ratio) - log
        side = 0 if abs(innovation) <= self._clip else int(math.copysign(1, innovation))
        self._run = self._run + side if side * self._run > 0 else side
        limit = self._clip * 2.0 ** min(8, max(0, abs(self._run) - 1))
        self._set(log + self._gain * min(max(innovation, -limit), limit))
        self._seen_ns, self._sure_until_ns = now_ns, now_ns + self._forget_ns

    def memory(self, now_ns: int) -> float:
        """What is left of what was learned: 1 until `forget_ns` without news, then half per further `forget_ns`."""
        if now_ns <= self._sure_until_ns:
            return 1.0
        return float(0.5 ** ((now_ns - self._sure_until_ns) / self._forget_ns))

    def rebase(self, ratio: float) -> None:
        """What the ratios are relative to has become `ratio` times itself: the factor makes up for it.

        Where nothing was seen yet there is nothing to make up for: what is new is all that is known.
        """
        if self._seen_ns is None:
            return
        self._set(self._log - math.log(ratio))

    def _set(self, log: float) -> None:
        self._log = min(max(log, _SMALLEST), _LARGEST)
        self._value = math.exp(self._log)
