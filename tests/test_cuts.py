import numpy as np

from avsal.prediction.shots import CUT_LEVELS, difference, find_cut, thumbnail


def test_a_thumbnail_is_the_mean_of_each_cell():
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[4:8, 8:12, 1] = 200
    small = thumbnail(pixels)
    assert small.shape == (8, 12, 3)
    assert small[1, 2, 1] == 200
    assert small.sum() == 200


def test_the_difference_is_the_mean_change_in_levels():
    before = thumbnail(np.full((32, 48, 3), 50, np.uint8))
    after = thumbnail(np.full((32, 48, 3), 90, np.uint8))
    assert difference(before, after) == difference(after, before) == 40


def test_a_cut_is_the_sharpest_change_if_it_is_sharp_enough():
    assert find_cut({7: 1.0, 8: CUT_LEVELS + 2, 9: CUT_LEVELS + 1}) == 8
    assert find_cut({0: CUT_LEVELS + 1}) == 0
    assert find_cut({7: 1.0, 8: CUT_LEVELS}) is None
    assert find_cut({}) is None
