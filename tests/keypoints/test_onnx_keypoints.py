"""Keypoint networks in ONNX files: both forms of outputs, the crop, and files that are refused."""

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.keypoints.onnx_keypoints import OnnxKeypoints

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper

from tests.tiny_onnx import constant_outputs, constant_values, save_graph

WIDTH, HEIGHT, COUNT = 48, 64, 17
SHAPE = (1, 3, HEIGHT, WIDTH)
BOX = np.array([100.0, 40.0, 190.0, 200.0])


def save(path, outputs, shape=SHAPE):
    return save_graph(path, *constant_outputs(outputs), shape)


def simcc(x=30, y=100, score=0.8):
    """Return SimCC's outputs, two bins a pixel, with all points in one place."""
    outputs = {
        "simcc_x": np.zeros((1, COUNT, 2 * WIDTH), np.float32),
        "simcc_y": np.zeros((1, COUNT, 2 * HEIGHT), np.float32),
    }
    outputs["simcc_x"][..., x] = score
    outputs["simcc_y"][..., y] = 0.9
    return outputs


def red_heat_maps(path):
    """Save a network whose heat maps are its input's red channel, shrunk to a quarter."""
    nodes = [
        helper.make_node("Gather", ["picture", "red"], ["normalised"], axis=1),
        helper.make_node("Mul", ["normalised", "deviation"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mean"], ["channel"]),
        helper.make_node(
            "AveragePool", ["channel"], ["small"], kernel_shape=[4, 4], strides=[4, 4]
        ),
        helper.make_node("Expand", ["small", "shape"], ["heat"]),
    ]
    values = constant_values(
        red=np.array([0]),
        deviation=np.float32(58.395 / 255),
        mean=np.float32(123.675 / 255),
        shape=np.array([1, COUNT, HEIGHT // 4, WIDTH // 4]),
    )
    shape = [1, COUNT, HEIGHT // 4, WIDTH // 4]
    info = helper.make_tensor_value_info("heat", TensorProto.FLOAT, shape)
    return save_graph(path, nodes, [info], values, SHAPE)


def spot(x, y, deviation=25.0):
    """Return a black photograph with a red spot."""
    rows, columns = np.mgrid[:240, :320] + 0.5
    image = np.zeros((240, 320, 3), np.uint8)
    distance = (columns - x) ** 2 + (rows - y) ** 2
    image[..., 0] = 250 * np.exp(-distance / (2 * deviation**2))
    return image


@pytest.mark.parametrize("place", [(145.0, 120.0), (133.0, 97.0), (160.5, 151.25)])
def test_heat_maps_find_a_spot_where_it_is_in_the_photograph(tmp_path, place):
    network = OnnxKeypoints(red_heat_maps(tmp_path / "k.onnx"))
    (found,) = network.look(spot(*place), [BOX])
    assert found is not None
    assert found.set.name == "coco17"
    # A pixel of the heat maps is 12.5 of the photograph.
    np.testing.assert_allclose(found.points, np.tile(place, (COUNT, 1)), atol=1.0)
    assert (found.confidence > 0.85).all()
    np.testing.assert_array_equal(found.box, BOX)


def test_a_box_without_a_sure_point_has_nobody(tmp_path):
    network = OnnxKeypoints(red_heat_maps(tmp_path / "k.onnx"))
    elsewhere = np.array([0.0, 0.0, 30.0, 40.0])
    nobody, somebody = network.look(spot(145, 120), [elsewhere, BOX])
    assert nobody is None
    assert somebody is not None


@pytest.mark.parametrize("swapped", [False, True])
def test_simcc_points_are_in_the_photographs_pixels(tmp_path, swapped):
    outputs = simcc()
    if swapped:
        outputs = dict(reversed(outputs.items()))
    network = OnnxKeypoints(save(tmp_path / "k.onnx", outputs))
    (found,) = network.look(np.zeros((240, 320, 3), np.uint8), [BOX])
    assert found is not None
    # 160 pixels of height, a quarter more, on 64: 3.125 pixels each, about the box's middle.
    expected = np.array([145, 120]) + (np.array([15.5, 50.5]) - (24, 32)) * 3.125
    np.testing.assert_allclose(found.points, np.tile(expected, (COUNT, 1)), atol=1e-6)
    np.testing.assert_allclose(found.confidence, 0.8, atol=1e-6)


def test_a_wide_box_is_widened_in_height(tmp_path):
    outputs = simcc(x=0, y=0)
    network = OnnxKeypoints(save(tmp_path / "k.onnx", outputs))
    box = np.array([10.0, 100.0, 106.0, 120.0])
    (found,) = network.look(np.zeros((240, 320, 3), np.uint8), [box])
    assert found is not None
    # 96 pixels of width, a quarter more, on 48.
    expected = np.array([58, 110]) - 2.5 * (np.array([24, 32]) - 0.5)
    np.testing.assert_allclose(found.points[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "named", "own"),
    [(26, None, "halpe26"), (133, None, "wholebody133"), (14, "aic14", "aic14")],
)
def test_the_number_of_points_tells_the_set(tmp_path, count, named, own):
    heat = np.full((1, count, 16, 12), 0.5, np.float32)
    assert OnnxKeypoints(save(tmp_path / "k.onnx", [heat]), named).set.name == own


def refusal(path, named=None) -> str:
    with pytest.raises(UserError) as caught:
        OnnxKeypoints(path, named)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_other_networks_and_sets_are_refused(tmp_path):
    heat = np.zeros((1, 14, 16, 12), np.float32)
    of_14 = save(tmp_path / "fourteen.onnx", [heat])
    assert "lsp14 or aic14" in refusal(of_14)
    assert "coco17" in refusal(of_14, "coco17")
    refusal(save(tmp_path / "seven.onnx", [heat[:, :7]]))
    assert "(1, 1000)" in refusal(save(tmp_path / "c.onnx", [np.zeros((1, 1000), np.float32)]))
    odd = {"x": np.zeros((1, 17, 96), np.float32), "y": np.zeros((1, 17, 96), np.float32)}
    assert "(1, 17, 96)" in refusal(save(tmp_path / "odd.onnx", odd))
    assert "(1, 1, 64, 48)" in refusal(save(tmp_path / "g.onnx", simcc(), (1, 1, HEIGHT, WIDTH)))
    (tmp_path / "text.onnx").write_text("hello")
    refusal(tmp_path / "text.onnx")
    refusal(tmp_path / "nowhere.onnx")
