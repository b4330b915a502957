import pytest

from model.tiny.compare import paired_difference


def test_what_both_get_right_or_wrong_says_nothing() -> None:
    found = paired_difference([True, False, True], [True, False, True])
    assert (found.mean, found.half_width) == (0.0, 0.0)


def test_a_loss_is_negative_and_its_interval_shrinks_with_the_number_of_pairs() -> None:
    few = paired_difference([True] * 20, [True] * 18 + [False] * 2)
    many = paired_difference([True] * 2000, [True] * 1800 + [False] * 200)
    assert few.mean == many.mean == pytest.approx(-10.0)
    assert few.half_width == pytest.approx(10 * many.half_width, rel=0.05)


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        paired_difference([True, True], [True])
