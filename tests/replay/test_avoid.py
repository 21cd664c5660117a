"""What a replay learns not to restore."""

from flor_trace.replay.avoid import HEADS_TO_GIVE_UP_AFTER, Avoided
from flor_trace.runtime.position import EXIT, Boundary


def test_exits_are_avoided_for_all_executions_of_a_loop() -> None:
    avoided = Avoided()
    assert avoided.add(Boundary("m:f:0", 3, EXIT))
    assert not avoided.allows(Boundary("m:f:0", 9, EXIT))
    assert avoided.allows(Boundary("m:f:0", 3, 4)), "heads are another matter"
    assert avoided.allows(Boundary("m:f:1", 3, EXIT)), "and so are other loops"
    assert not avoided.add(Boundary("m:f:0", 4, EXIT)), "nothing new"


def test_heads_are_avoided_one_by_one_until_it_looks_hopeless() -> None:
    avoided = Avoided()
    for iteration in range(1, HEADS_TO_GIVE_UP_AFTER):
        avoided.add(Boundary("m:f:0", 0, iteration))
        assert not avoided.allows(Boundary("m:f:0", 0, iteration))
        assert avoided.allows(Boundary("m:f:0", 0, 100))
    avoided.add(Boundary("m:f:0", 0, 50))
    assert not avoided.allows(Boundary("m:f:0", 0, 100))
    assert not avoided.allows(Boundary("m:f:0", 1, 100))


def test_another_process_learns_the_same() -> None:
    boundaries = [Boundary("m:f:0", 0, 1), Boundary("m:f:1", 0, EXIT)]
    avoided = Avoided()
    for boundary in boundaries:
        avoided.add(boundary)
    copy = Avoided(avoided.as_json())
    copy.update(avoided.as_json())
    assert copy.as_json() == avoided.as_json() and len(copy.as_json()) == 2
    assert not any(copy.allows(boundary) for boundary in boundaries)
