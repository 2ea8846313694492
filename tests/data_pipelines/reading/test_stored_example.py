"""Records of shards are parsed to the examples they were written from."""

import numpy as np
import pytest
import tensorflow as tf

from data_pipelines.reading.storage import stored_features
from data_pipelines.reading.stored_example import parse_example, parse_name


@pytest.mark.parametrize("parts", [True, False])
def test_reads_what_tfds_writes(parts, make_record):
    record = make_record(seed=3, parts=parts)
    features = stored_features()
    serialised = features.serialize_example(features.encode_example(record))
    parsed = parse_example(serialised)
    assert list(parsed) == list(record)
    for name, value in record.items():
        assert type(parsed[name]) is type(value), name
        np.testing.assert_array_equal(parsed[name], value, err_msg=name)
        if not isinstance(value, bytes | str):
            assert parsed[name].dtype == value.dtype, name
    assert parse_name(serialised) == ("made_up", 0, 3)


def test_a_record_from_before_a_field_has_its_default(make_record):
    features = stored_features()
    record = make_record()
    message = tf.train.Example.FromString(features.serialize_example(record))
    for name in ("joints_3d_known", "rotations_known", "points_2d", "points_2d_weight"):
        del message.features.feature[name]
    parsed = parse_example(message.SerializeToString())
    assert list(parsed) == list(record)
    assert parsed["joints_3d_known"].all()
    assert parsed["rotations_known"].all()
    assert parsed["points_2d"].shape == record["points_2d"].shape
    assert not parsed["points_2d_weight"].any()


def test_refuses_a_record_of_another_kind():
    with pytest.raises(ValueError, match="image"):
        parse_example(b"")
    with pytest.raises(ValueError, match="sequence"):
        parse_name(b"")
    for parse in (parse_example, parse_name):
        with pytest.raises(ValueError):  # noqa: PT011 - the message is protobuf's
            parse(b"no message")


def test_refuses_a_field_of_another_size(make_record):
    features = stored_features()
    example = tf.train.Example.FromString(features.serialize_example(make_record()))
    example.features.feature["betas"].float_list.value.append(1.0)
    with pytest.raises(ValueError, match=r"11 .*betas"):
        parse_example(example.SerializeToString())
