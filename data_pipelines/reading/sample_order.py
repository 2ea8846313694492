"""Which example stands at which place of the endless training stream, and its random numbers.

Everything here is a function of (seed, position): the stream can be entered anywhere at no cost,
and a run that was killed and resumed sees the bytes it would have seen. Position p of the stream
belongs to one dataset and is that dataset's n-th draw (`Mixture.draws`); draw n is an element of
the permutation of that draw's epoch (`Shuffle.indices`).

Random numbers come from Philox, a counter-based generator (Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", SC 2011): the block at a counter needs no block before it.
"""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from pare_jax.errors import UserError

# Datasets share the stream in cycles of this many places, so weights hold to a tenth of a percent.
CYCLE = 1000
# One Philox4x64 block holds four 64-bit numbers, which is as many as a sample needs.
UNIFORMS_PER_SAMPLE = 4

# What a generator is for: streams of one seed with different purposes are independent.
_PURPOSE_MIXTURE, _PURPOSE_SHUFFLE, _PURPOSE_SAMPLE = range(3)


def _generator(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


class Mixture:
    """Share the stream between datasets by weight.

    Every cycle holds each dataset's exact number of places, in an order of its own. Counts are the
    weights' shares of `CYCLE`, rounded by largest remainder.
    """

    def __init__(self, weights: Sequence[float], seed: int):
        """Args: weights, positive, of any sum; seed, any non-negative integer."""
        shares = np.asarray(weights, np.float64)
        if shares.ndim != 1 or not len(shares) or not np.all(np.isfinite(shares) & (shares > 0)):
            raise UserError(
                f"data.train: dataset weights {list(weights)} must be positive numbers; "
                "leave a dataset out to give it no share"
            )
        shares = shares / shares.sum() * CYCLE
        self.counts = np.floor(shares).astype(np.int64)
        remainders = shares - self.counts
        largest_first = np.argsort(-remainders, kind="stable")
        self.counts[largest_first[: CYCLE - self.counts.sum()]] += 1
        if np.any(self.counts == 0):
            raise UserError(
                f"data.train: dataset weights {list(weights)} leave one dataset less than "
                f"1/{CYCLE} of the samples; raise its weight or leave it out"
            )
        self._seed = seed
        self._cycle = functools.lru_cache(maxsize=8)(self._build_cycle)

    def _build_cycle(self, cycle: int) -> tuple[np.ndarray, np.ndarray]:
        datasets = np.repeat(np.arange(len(self.counts)), self.counts)
        if len(self.counts) > 1:
            datasets = _generator(self._seed, _PURPOSE_MIXTURE, cycle).permutation(datasets)
        ranks = np.empty(CYCLE, np.int64)
        for dataset, count in enumerate(self.counts):
            ranks[datasets == dataset] = np.arange(count)
        return datasets, ranks

    def draws(
        self, start: int, count: int
    ) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
        """Return dataset and number of the draw from it, for places start .. start + count."""
        datasets, draws = [], []
        for cycle in range(start // CYCLE, (start + count - 1) // CYCLE + 1):
            low, high = max(start - cycle * CYCLE, 0), min(start + count - cycle * CYCLE, CYCLE)
            owners, ranks = self._cycle(cycle)
            datasets.append(owners[low:high])
            draws.append(ranks[low:high] + cycle * self.counts[owners[low:high]])
        return np.concatenate(datasets), np.concatenate(draws)


class Shuffle:
    """Order one dataset's draws: epoch after epoch, each a permutation of all its examples."""

    def __init__(self, size: int, seed: int, dataset: int = 0):
        """Args: size, number of examples; seed; dataset, its place among the mixed ones."""
        self._size = size
        # Several threads may ask around the turn of an epoch; a permutation is 8 bytes an example.
        self._epoch = functools.lru_cache(maxsize=2)(
            lambda epoch: _generator(seed, _PURPOSE_SHUFFLE, dataset, epoch).permutation(size)
        )

    def indices(self, draws: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
        """Return the example at each draw."""
        epochs, places = np.divmod(draws, self._size)
        indices = np.empty_like(draws)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            indices[chosen] = self._epoch(int(epoch))[places[chosen]]
        return indices


def sample_uniforms(seed: int, start: int, count: int) -> Float64[np.ndarray, "n 4"]:
    """Return four numbers in [0, 1) for each of the places start .. start + count.

    They depend on (seed, place) alone, however the stream is cut into batches.
    """
    key = np.random.SeedSequence([seed, _PURPOSE_SAMPLE]).generate_state(2, np.uint64)
    raw = np.random.Philox(key=key, counter=start).random_raw(count * UNIFORMS_PER_SAMPLE)
    return (raw >> np.uint64(11)).reshape(count, UNIFORMS_PER_SAMPLE) * 2.0**-53
