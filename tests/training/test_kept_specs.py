"""TensorStore's descriptions of folders are made once and lose no memory."""

import sys

import tensorstore

from pare_jax.training.kept_specs import keep_specs


def test_a_description_that_is_asked_for_again_is_a_copy_and_loses_no_memory():
    def describe(folder):
        return tensorstore.KvStore.Spec({"driver": "file", "path": folder}).to_json()

    wanted = {folder: describe(folder) for folder in ("/one/", "/two/")}
    keep_specs()
    keep_specs()  # as in a second run of one process
    describe("/one/")["path"] = "changed"
    assert {folder: describe(folder) for folder in wanted} == wanted
    before = sys.getallocatedblocks()
    for _ in range(2000):
        describe("/one/")
    assert sys.getallocatedblocks() - before < 2000  # without it, four are lost each time
