"""Chooses the example and the random numbers at each position of the endless training stream.

All functions depend on (seed, position) alone: a stream can start anywhere at no cost, and a
resumed run reads the same bytes as one that was not interrupted. Position p belongs to one dataset
and is that dataset's n-th draw (`Mixture.draws`). Draw n is an element of the permutation of its
epoch (`Shuffle.indices`).

Random numbers come from Philox, a counter-based generator (Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", SC 2011): each block is computed from its counter, without the blocks before.
"""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from pare_jax.errors import UserError

# Datasets share the stream in cycles of this many positions: weights hold to a tenth of a percent.
CYCLE = 1000
# The longer ones are for mixtures with a dataset that would have no position in a shorter one.
CYCLES = (CYCLE, 10_000, 100_000, 1_000_000)
# A sample needs four numbers; one Philox4x64 block has four of 64 bits.
UNIFORMS_PER_SAMPLE = 4

# Generators of one seed with different purposes are independent.
_PURPOSE_MIXTURE, _PURPOSE_SHUFFLE, _PURPOSE_SAMPLE = range(3)


def _generator(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def _apportion(shares: Float64[np.ndarray, "n"], cycle: int) -> Int64[np.ndarray, "n"]:
    """Return each share of a cycle in whole positions, rounded by largest remainder."""
    shares = shares / shares.sum() * cycle
    counts = np.floor(shares).astype(np.int64)
    largest_first = np.argsort(-(shares - counts), kind="stable")
    counts[largest_first[: cycle - counts.sum()]] += 1
    return counts


class Mixture:
    """Shares the stream between datasets by weight.

    In every cycle each dataset has the same number of positions, in a new order. The numbers are
    the weights' shares of the cycle, rounded by largest remainder. The cycle is the first of
    `CYCLES` in which every dataset has a position.
    """

    def __init__(self, weights: Sequence[float], seed: int):
        """Args: weights, positive, of any sum; seed, an integer of 0 or more."""
        shares = np.asarray(weights, np.float64)
        if shares.ndim != 1 or not len(shares) or not np.all(np.isfinite(shares) & (shares > 0)):
            raise UserError(
                f"data.train: dataset weights {list(weights)} must be positive numbers; "
                "remove a dataset to give it no share"
            )
        for self.cycle in CYCLES:
            self.counts = _apportion(shares, self.cycle)
            if np.all(self.counts > 0):
                break
        else:
            raise UserError(
                f"data.train: dataset weights {list(weights)} give one dataset less than "
                f"1/{CYCLES[-1]} of the samples; raise its weight or remove it"
            )
        self._seed = seed
        self._cycle = functools.lru_cache(maxsize=8 if self.cycle == CYCLE else 2)(
            self._build_cycle
        )

    def _build_cycle(self, cycle: int) -> tuple[np.ndarray, np.ndarray]:
        datasets = np.repeat(np.arange(len(self.counts)), self.counts)
        if len(self.counts) > 1:
            datasets = _generator(self._seed, _PURPOSE_MIXTURE, cycle).permutation(datasets)
        ranks = np.empty(self.cycle, np.int64)
        for dataset, count in enumerate(self.counts):
            ranks[datasets == dataset] = np.arange(count)
        return datasets, ranks

    def draws(
        self, start: int, count: int
    ) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
        """Return the dataset and its draw for positions start .. start + count - 1."""
        datasets, draws = [], []
        length = self.cycle
        for cycle in range(start // length, (start + count - 1) // length + 1):
            low, high = max(start - cycle * length, 0), min(start + count - cycle * length, length)
            owners, ranks = self._cycle(cycle)
            datasets.append(owners[low:high])
            draws.append(ranks[low:high] + cycle * self.counts[owners[low:high]])
        return np.concatenate(datasets), np.concatenate(draws)


class Shuffle:
    """Orders the draws of one dataset: each epoch is a permutation of all its examples."""

    def __init__(self, size: int, seed: int, dataset: int = 0):
        """Args: size, number of examples; seed; dataset, its number in the mixture."""
        self._size = size
        # At the end of an epoch, threads need two permutations. One takes 8 bytes an example.
        self._epoch = functools.lru_cache(maxsize=2)(
            lambda epoch: _generator(seed, _PURPOSE_SHUFFLE, dataset, epoch).permutation(size)
        )

    def indices(self, draws: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
        """Return the index of the example of each draw."""
        epochs, places = np.divmod(draws, self._size)
        indices = np.empty_like(draws)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            indices[chosen] = self._epoch(int(epoch))[places[chosen]]
        return indices


def sample_uniforms(seed: int, start: int, count: int) -> Float64[np.ndarray, "n 4"]:
    """Return four numbers in [0, 1) for each of the positions start .. start + count - 1.

    They depend on (seed, position) alone, not on the batches.
    """
    key = np.random.SeedSequence([seed, _PURPOSE_SAMPLE]).generate_state(2, np.uint64)
    raw = np.random.Philox(key=key, counter=start).random_raw(count * UNIFORMS_PER_SAMPLE)
    return (raw >> np.uint64(11)).reshape(count, UNIFORMS_PER_SAMPLE) * 2.0**-53
