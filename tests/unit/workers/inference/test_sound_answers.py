"""What no sound network answers: NaN, infinity, the same at each place."""

import numpy as np
import pytest
import torch

from node.errors import ModelOutputInvalid
from workers.inference.answers import is_finite, require_sound


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_one_value_among_many_that_is_no_number_is_seen(bad: float) -> None:
    answer = torch.zeros(3, 4, 5)
    assert is_finite(answer)
    answer[1, 2, 3] = bad
    assert not is_finite(answer)


def test_whole_numbers_and_nothing_at_all_are_finite() -> None:
    assert is_finite(torch.ones(3, dtype=torch.uint8))
    assert is_finite(torch.empty(0))


def test_answers_that_do_not_differ_are_refused() -> None:
    with pytest.raises(ModelOutputInvalid, match=r"answered 0\.5 at each of 6 places"):
        require_sound(np.full((2, 3), 0.5, np.float32), "tumour")
    require_sound(np.array([0.5, 0.6], np.float32), "tumour")
