"""Frames of one sequence, and of cameras that film together, have one sequence by their names."""

import pytest

from data_pipelines.releases.sequence_names import sequence_of

FRAMES = {
    "images/S1_Directions_1.54138969_000001.jpg": "images/S1_Directions_1.60457274_000406.jpg",
    "S1/Seq1/imageFrames/video_0/frame_000001.jpg": "S1/Seq1/imageFrames/video_8/frame_000321.jpg",
    "S4_Seq2_Cam0_001033.jpg": "S4_Seq2_Cam14_000001.jpg",
    "imageFiles/courtyard_00/image_00000.jpg": "imageFiles/courtyard_00/image_00123.jpg",
    "scene/png/seq_000003/seq_000003_0000.png": "scene/png/seq_000003/seq_000003_0145.png",
    "clip/001.jpg": "clip\\002.JPG",
    "001.png": "002.png",
    "": "7",
}


@pytest.mark.parametrize("first", FRAMES)
def test_frames_of_one_sequence_have_one_name(first):
    assert sequence_of(first) == sequence_of(FRAMES[first])


def test_different_sequences_have_different_names():
    names = [
        *("S1/Seq1/imageFrames/video_0/frame_000001.jpg", "S1/Seq2/imageFrames/video_0/f_01.jpg"),
        *("images/S1_Directions_1.54138969_000001.jpg", "images/S1_Directions.54138969_000001.jpg"),
        *("video_1/0001.jpg", "video_2/0001.jpg", "imageFiles/a_00/image_00000.jpg"),
        *("imageFiles/a_01/image_00000.jpg", "scene/seq_000001/seq_000001_0000.png"),
        "other/seq_000001/seq_000001_0000.png",
    ]
    assert len({sequence_of(name) for name in names}) == len(names)


def test_single_photographs_are_their_own_sequence_whatever_their_folder():
    names = ["COCO_train2014_000000581000", "000000000139", "015601864", "im00012", "im00013"]
    assert [sequence_of(f"any/{name}.jpg") for name in names] == names
