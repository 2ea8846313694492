"""Pictures of several people, who are told apart by colour and number."""

import numpy as np

from pare_jax.prediction.drawing import overlay_picture, side_and_back_picture
from pare_jax.rendering.overlay import BODY_COLOURS
from tests.prediction.made_up_people import make_person, small_body

BODY = small_body()


def test_side_and_back_views_have_each_persons_colour():
    people = [make_person(BODY, number, 100.0) for number in range(2)]
    alone = [side_and_back_picture([person]) for person in people]
    both = side_and_back_picture(people)
    width = alone[0].shape[1]
    left, right = both[:, :width], both[:, -width:]
    # The first person's panel differs only by the number in its corner.
    changed = np.argwhere((left != alone[0]).any(2))
    assert len(changed) > 10
    assert changed.max(0)[0] < 40
    for part, colour in ((left, BODY_COLOURS[0]), (right, BODY_COLOURS[1])):
        drawn = part[50:-60].reshape(-1, 3).astype(float)
        drawn = drawn[np.ptp(drawn, axis=1) > 20]
        hue = np.median(drawn / drawn.max(1, keepdims=True), axis=0)
        np.testing.assert_allclose(hue, np.array(colour) / max(colour), atol=0.05)


def test_figures_of_several_people_are_below_a_photograph_of_the_same_size():
    photograph = np.full((300, 400, 3), 90, np.uint8)
    people = [make_person(BODY, number, 60.0 + 70 * number) for number in range(5)]
    alone = overlay_picture(photograph, people[:1])
    assert alone.shape[0] == 300
    assert alone.shape[1] > 600
    for count in (2, 5):
        sheet = overlay_picture(photograph, people[:count])
        assert sheet.shape[1] == 400
        assert sheet.shape[0] > 500
        # The photograph is not shrunk: its lower right corner is where it was.
        assert (sheet[295:300, 390:400] == 90).all()
        assert not (sheet[300:308, 390:400] == 90).any()
        for number in range(count):
            colour = np.array(BODY_COLOURS[number]) / max(BODY_COLOURS[number])
            below = sheet[310:].reshape(-1, 3).astype(float)
            below = below[np.ptp(below, axis=1) > 20]
            hues = below / below.max(1, keepdims=True)
            assert (np.abs(hues - colour).max(1) < 0.05).sum() > 300, number
