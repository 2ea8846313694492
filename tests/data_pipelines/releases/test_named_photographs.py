"""Photographs that label files name with other folders, without ending, or by number."""

import pytest

from data_pipelines.releases.named_photographs import AMBIGUOUS, MISSING, find_photographs


@pytest.fixture(name="folder")
def folder_fixture(tmp_path):
    for path in ("a/x.jpg", "a/1.png", "b/1.png", "b/COCO_val2014_000000000139.jpg", "c/P.HEIC"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path.parent / "outside.jpg").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a/x.jpg", "a/x.jpg"),
        ("x.jpg", "a/x.jpg"),
        ("train2014/x.jpg", "a/x.jpg"),
        ("C:\\data\\b\\1.png", "b/1.png"),
        ("x", "a/x.jpg"),
        ("P", "c/P.HEIC"),
        ("139", "b/COCO_val2014_000000000139.jpg"),
    ],
)
def test_a_photograph_is_found_by_a_name_with_other_folders_or_none(folder, name, found):
    assert find_photographs(folder, [name]).paths == {name: found}


def test_a_name_of_several_photographs_and_of_none_are_told_apart(folder):
    found = find_photographs(folder, ["1.png", "2.png", "../outside.jpg", ""])
    assert found.problems == {
        "1.png": AMBIGUOUS,
        "2.png": MISSING,
        "../outside.jpg": MISSING,
        "": MISSING,
    }


def test_names_of_two_sequences_are_not_joined_to_the_photograph_of_a_third(folder):
    found = find_photographs(folder, ["walk/x.jpg", "run/x.jpg", "a/x.jpg"])
    assert found.paths == {"a/x.jpg": "a/x.jpg"}
    assert set(found.problems.values()) == {AMBIGUOUS}
