"""The played-back caching allocator: its rounding, its reuse, its splitting, and giving segments back."""

from hypothesis import given
from hypothesis import strategies as st

from doctor.estimate.allocator import Allocator

MIB = 1 << 20


def test_segments_round_as_pytorch_does():
    memory = Allocator()
    memory.take(5 * MIB)
    assert memory.reserved == 20 * MIB
    memory.take(33 * MIB)
    assert memory.reserved == 54 * MIB


def test_a_freed_block_is_split_and_joined_again():
    memory = Allocator()
    whole = memory.take(100 * MIB)
    memory.give(whole)
    halves = [memory.take(50 * MIB), memory.take(50 * MIB)]
    assert memory.reserved == 100 * MIB
    for half in halves:
        memory.give(half)
    memory.take(100 * MIB)
    assert memory.reserved == 100 * MIB


def test_a_carved_block_no_longer_serves_the_large_request():
    memory = Allocator()
    memory.give(memory.take(100 * MIB))
    memory.take(12 * MIB)
    memory.take(100 * MIB)
    assert memory.reserved == 200 * MIB


def test_unused_segments_are_given_back_before_it_fails():
    memory = Allocator(capacity=150 * MIB)
    memory.give(memory.take(100 * MIB))
    memory.take(120 * MIB)
    assert (memory.reserved, memory.failed) == (120 * MIB, False)
    memory.take(60 * MIB)
    assert memory.failed


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 300 * MIB)), max_size=60))
def test_what_is_given_back_is_whole(events):
    memory, held = Allocator(), []
    for take, size in events:
        if take or not held:
            held.append(memory.take(size))
        else:
            memory.give(held.pop(size % len(held)))
        assert memory.allocated <= memory.reserved + sum(block.size for block in held if block.number < 0)
    for block in held:
        memory.give(block)
    assert memory.allocated == 0
    assert sum(size for size, _ in memory._free) == memory.reserved
