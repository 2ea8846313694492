"""ONNX detectors of every layout, and files that are refused."""

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.prediction.detection import make_detector

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from tests.tiny_onnx import constant_outputs, constant_values, save_graph  # noqa: E402

SIDE = 64  # of the tiny detectors' input
CELLS = [(x * s, y * s, s) for s in (8, 16, 32) for y in range(SIDE // s) for x in range(SIDE // s)]


def save(path, outputs, *, shape=(1, 3, SIDE, SIDE), echo=False):
    """Save a model with constant outputs; with `echo` the first score tells the input's maximum."""
    nodes, infos, values = constant_outputs(outputs)
    if echo:
        # The first box's score is 0.5 + maximum of the blue channel / 1000.
        values += constant_values(
            where=np.array([0, 0, 4]),
            blue=np.array([0]),
            unit=np.float32(1e-3),
            offset=np.float32(0.5),
        )
        nodes = [
            helper.make_node("Gather", ["picture", "blue"], ["channel"], axis=1),
            helper.make_node("ReduceMax", ["channel"], ["most"], keepdims=0),
            helper.make_node("Mul", ["most", "unit"], ["scaled"]),
            helper.make_node("Add", ["scaled", "offset"], ["score"]),
            helper.make_node("ScatterND", ["value0", "where", "score"], ["out0"]),
            *nodes[1:],
        ]
    return save_graph(path, nodes, infos, values, shape)


def yolox_rows(*, decoded: bool, people, others=()):
    """Return YOLOX's output for boxes (x, y, width, height, score), in pixels of the input."""
    rows = np.zeros((1, len(CELLS), 85), np.float32)
    for row, (x, y, stride) in zip(rows[0], CELLS, strict=True):
        row[:4] = (x + stride / 2, y + stride / 2, 5, 5) if decoded else (0.5, 0.5, -0.5, -0.5)
    for kind, boxes in ((0, people), (16, others)):
        for x, y, width, height, score in boxes:
            middle = np.array([x + width / 2, y + height / 2])
            nearest = np.argmin(
                [abs(middle - (cx + s / 2, cy + s / 2)).sum() for cx, cy, s in CELLS]
            )
            cx, cy, stride = CELLS[nearest]
            size = np.array([width, height])
            place = middle if decoded else (middle - (cx, cy)) / stride
            rows[0, nearest, :5] = *place, *(size if decoded else np.log(size / stride)), score
            rows[0, nearest, 5 + kind] = 1.0
    return rows


@pytest.mark.parametrize("decoded", [True, False])
def test_yolox_boxes_are_in_the_photographs_pixels(tmp_path, decoded):
    rows = yolox_rows(
        decoded=decoded,
        people=[(4, 10, 8, 20, 0.9), (40, 4, 6, 16, 0.6), (20, 30, 6, 10, 0.2)],
        others=[(28, 8, 9, 9, 0.95)],
    )
    detector = make_detector(save(tmp_path / "d.onnx", [rows]), threshold=0.5)
    # 128 x 96 fits the 64 x 64 input at a half.
    found = detector(np.zeros((96, 128, 3), np.uint8))
    assert [round(d.score, 4) for d in found] == [0.9, 0.6]
    np.testing.assert_allclose(found[0].box, [8, 20, 24, 60], atol=1e-3)
    np.testing.assert_allclose(found[1].box, [80, 8, 92, 40], atol=1e-3)


def test_yolox_overlaps_are_suppressed(tmp_path):
    rows = yolox_rows(decoded=True, people=[(10, 10, 20, 40, 0.9), (10, 12, 21, 44, 0.8)])
    (found,) = make_detector(save(tmp_path / "d.onnx", [rows]))(np.zeros((64, 64, 3), np.uint8))
    np.testing.assert_allclose(found.box, [10, 10, 30, 50], atol=1e-3)


def rtmdet(labels=(0, 2, 0)):
    boxes = np.array([[[1, 2, 11, 32, 0.8], [3, 3, 30, 30, 0.9], [60, 2, 90, 60, 0.4]]], np.float32)
    return [boxes, np.array([labels], np.int64)]


def test_rtmdet_takes_people_only_and_clips(tmp_path):
    path = save(tmp_path / "d.onnx", rtmdet())
    found = make_detector(path, threshold=0.3)(np.zeros((32, 32, 3), np.uint8))
    np.testing.assert_allclose([d.score for d in found], [0.8, 0.4], atol=1e-6)
    np.testing.assert_allclose(found[0].box, [0.5, 1, 5.5, 16])
    np.testing.assert_allclose(found[1].box, [30, 1, 32, 30])
    without_labels = make_detector(save(tmp_path / "e.onnx", rtmdet()[:1]), threshold=0.3)
    assert len(without_labels(np.zeros((32, 32, 3), np.uint8))) == 3


@pytest.mark.parametrize("name", ["rtmdet", "yolox"])
def test_inputs_are_normalised_as_the_layout_needs(tmp_path, name):
    """The first box's score tells the maximum of the model's first input channel."""
    detector = make_detector(save(tmp_path / f"{name}.onnx", rtmdet(), echo=True), threshold=0.0)
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = 200  # red must not be fed as blue
    image[..., 2] = 5

    def brightest(photograph):
        (score,) = [d.score for d in detector(photograph) if d.box.tolist() == [1, 2, 11, 32]]
        return (score - 0.5) * 1000

    def expected(value):  # of the blue channel
        return value if name == "yolox" else (value - 103.53) / 57.375

    assert brightest(image) == pytest.approx(expected(5), abs=1e-3)
    assert brightest(image[:32]) == pytest.approx(expected(114), abs=1e-3)  # the padding


def test_input_of_any_size(tmp_path):
    path = save(tmp_path / "d.onnx", rtmdet(), shape=("batch", 3, "height", "width"))
    found = make_detector(path)(np.zeros((320, 320, 3), np.uint8))
    np.testing.assert_allclose(found[0].box, [0.5, 1, 5.5, 16])


def test_detectors_of_one_file_share_a_session(tmp_path, monkeypatch):
    """A run over photographs and clips has two detectors, which differ in their thresholds."""
    opened = []
    session = onnxruntime.InferenceSession

    def open_session(path, *arguments, **options):
        opened.append(path)
        return session(path, *arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    path = save(tmp_path / "d.onnx", rtmdet())
    image = np.zeros((32, 32, 3), np.uint8)
    counts = [len(make_detector(path, threshold)(image)) for threshold in (0.5, 0.3)]
    assert counts == [1, 2]
    assert opened == [path]
    save(tmp_path / "d.onnx", rtmdet()[:1])  # another file of the same name
    assert len(make_detector(path, 0.3)(image)) == 3
    assert opened == [path, path]


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        make_detector(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_other_layouts_are_refused_with_their_shapes(tmp_path):
    classifier = save(tmp_path / "c.onnx", [np.zeros((1, 1000), np.float32)])
    assert "(1, 1000)" in refusal(classifier)
    odd = save(tmp_path / "o.onnx", [np.zeros((1, 77, 85), np.float32)])
    assert "(1, 77, 85)" in refusal(odd)
    grey = save(tmp_path / "g.onnx", rtmdet(), shape=(1, 1, SIDE, SIDE))
    assert "(1, 1, 64, 64)" in refusal(grey)
    refusal(save(tmp_path / "n.onnx", rtmdet(), shape=None))


def test_files_that_are_missing_or_not_onnx_are_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    refusal(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    refusal(tmp_path / "empty.onnx")
    refusal(tmp_path / "nowhere.onnx")
