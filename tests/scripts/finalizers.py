"""Objects that say when they die: rebound, in containers, loop variables, locals, exceptions, cycles, and weak references' callbacks."""

import gc
import weakref


class Loud:
    def __init__(self, name, *held):
        self.name = name
        self.held = held

    def __del__(self):
        print("died", self.name)


class Item(Loud):
    pass


def items(count, prefix):
    for number in range(count):
        yield Item(f"{prefix}{number}")


def local_work(epoch):
    first = Loud(f"local first {epoch}")
    second = first
    for step in range(2):
        second = Loud(f"local {epoch}.{step}")
        pair = (second, Loud(f"pair {epoch}.{step}"))  # noqa: F841
        #+inner print("@@ inner", epoch, step, first.name, len(pair))
    return second


def failing(epoch):
    held = Loud(f"in a failing frame {epoch}")
    raise ValueError(held.name)


def gone(name):
    return lambda reference: print("callback", name, reference() is None)


gc.collect()
kept = [Loud("kept 0")]
table = {}
thing = Loud("thing before")
watched = Loud("watched before")
watcher = weakref.ref(watched, gone("before"))
for epoch in range(5):
    thing = Loud(f"thing {epoch}")
    table[epoch] = thing
    if epoch > 1:
        del table[epoch - 2]
    kept.append(Loud(f"kept {epoch + 1}"))
    if epoch == 3:
        del kept[1:3]
    result = local_work(epoch)
    for item in items(3, f"generated {epoch}."):
        #+item print("@@ item", item.name)
        print("had", item.name)
    for item in [Item(f"listed {epoch}.{n}") for n in range(3)]:
        print("has", item.name)
    for item in map(Item, (f"mapped {epoch}.{n}" for n in range(2))):
        print("has", item.name)
    waiting = [Loud(f"waiting {epoch}.{n}") for n in range(2)]
    while waiting:
        waiting.pop()
        print("popped")
    try:
        failing(epoch)
    except ValueError as error:
        print("caught", error)
    watched = Loud(f"watched {epoch}")
    watcher = weakref.ref(watched, gone(epoch))
    print("watcher", watcher() is watched)
    ring = Loud(f"ring {epoch}")
    ring.held = ring
    del ring
    print("collected", gc.collect() > 0)
    #+outer print("@@ outer", epoch, thing.name, sorted(table), [k.name for k in kept], item.name, result.name)
    print("end of", epoch)
del thing, table, kept, watcher, watched, item, result
print("ended")
