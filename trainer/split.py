"""Which articles train and which are held out; whole articles, so that no paragraph leaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

HELD_OUT_SHARE = 0.05
SPLIT_SEED = 0


def held_out_titles(titles: Sequence[str], share: float = HELD_OUT_SHARE, seed: int = SPLIT_SEED) -> list[str]:
    """A seeded draw of ``ceil(share * articles)`` titles, in the order of the draw; at least one stays to train.

    Raises:
        ValueError: fewer than two articles, or the share not in (0, 1).
    """
    if len(titles) < 2 or not 0.0 < share < 1.0:
        raise ValueError(f"cannot hold out a share of {share} of {len(titles)} articles")
    count = min(len(titles) - 1, int(np.ceil(share * len(titles))))
    order = np.random.default_rng(seed).permutation(len(titles))
    return [titles[i] for i in order[:count]]
