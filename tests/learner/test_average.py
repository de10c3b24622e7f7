import pytest
import torch

from learner.average import ActorAverage


def test_it_is_the_exponential_average_after_a_short_start():
    live = {"w": torch.zeros(2, dtype=torch.float64), "n": torch.tensor(3)}
    average = ActorAverage(live, decay=0.8)
    values = torch.randn(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2, dtype=torch.float64)
    for count, value in enumerate(values, start=1):
        live["w"].copy_(value)
        average.follow(count)
        kept = min(0.8, 1 - 10 / (9 + count))
        expected = kept * expected + (1 - kept) * value
        torch.testing.assert_close(average.tensors["w"], expected)
    assert kept == 0.8
    assert int(average.tensors["n"]) == 3


def test_its_first_value_forgets_what_it_began_with():
    live = {"w": torch.full((2,), 7.0)}
    average = ActorAverage(live, decay=0.999)
    live["w"].fill_(2.0)
    average.follow(1)
    assert average.tensors["w"].tolist() == [2, 2]


def test_it_steadies_what_jumps_about():
    live = {"w": torch.zeros(1000)}
    average = ActorAverage(live, decay=0.99)
    generator = torch.Generator().manual_seed(0)
    for count in range(1, 1001):
        live["w"].normal_(generator=generator)
        average.follow(count)
    # The variance of an exponential average of independent values is (1 - d) / (1 + d) of theirs.
    expected = (0.01 / 1.99) ** 0.5
    assert float(average.tensors["w"].std()) == pytest.approx(expected, rel=0.15)


def test_a_saved_one_goes_on():
    live = {"w": torch.ones(2)}
    first = ActorAverage(live, decay=0.9)
    first.follow(1)
    second = ActorAverage({"w": torch.zeros(2)}, decay=0.9)
    second.load_state_dict(first.state_dict())
    assert second.tensors["w"].tolist() == [1, 1]
