"""TensorStore's specs are cached, so that asking again leaks no memory."""

import sys

import tensorstore

from pare_jax.training.cached_specs import cache_specs


def test_a_spec_that_is_asked_for_again_is_a_copy_and_leaks_no_memory():
    def ask(folder):
        return tensorstore.KvStore.Spec({"driver": "file", "path": folder}).to_json()

    wanted = {folder: {"driver": "file", "path": folder} for folder in ("/one/", "/two/")}
    cache_specs()
    cache_specs()  # as in the second run of a process
    ask("/one/")["path"] = "changed"
    assert {folder: ask(folder) for folder in wanted} == wanted
    before = sys.getallocatedblocks()
    for _ in range(2000):
        ask("/one/")
    assert sys.getallocatedblocks() - before < 2000  # without the cache: 8,000
