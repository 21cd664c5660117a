"""Python objects of many kinds, changed in the loop and born in it: what they hold, and who is who among them."""

import argparse
import collections
import enum
import functools
import logging
import random
import sys
import weakref

random.seed(3)


class Node:
    def __init__(self, name, before=None):
        self.name = name
        self.before = before
        self.me = self

    def told(self):
        return self.name


class Base:
    __slots__ = ("a", "__weakref__")


class Middle(Base):
    __slots__ = ("b",)


class Leaf(Middle):
    __slots__ = ("a", "c", "__dict__")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2

    def __init__(self, number):
        self.seen = 0


class Counting(type):
    made = []

    def __call__(cls, *args):
        cls.calls = getattr(cls, "calls", 0) + 1
        Counting.made.append(cls.calls)
        return super().__call__(*args)


class Counted(metaclass=Counting):
    def __init__(self, x):
        self.x = x


class Single:
    only = None

    def __new__(cls):
        if cls.only is None:
            cls.only = super().__new__(cls)
            cls.only.total = 0
        return cls.only


class Moody:
    """Whoever pickles, copies or looks at it runs its code."""

    opened = 0

    def __init__(self, value):
        self.__dict__["hidden"] = value

    def __getattr__(self, name):
        Moody.opened += 1
        raise AttributeError(name)

    def __setattr__(self, name, value):
        Moody.opened += 1
        self.__dict__[name] = value

    def __getstate__(self):
        raise RuntimeError("pickled")

    def __setstate__(self, state):
        raise RuntimeError("unpickled")

    def __reduce__(self):
        raise RuntimeError("reduced")

    @property
    def value(self):
        self.__dict__["reads"] = self.__dict__.get("reads", 0) + 1
        return self.hidden


class Config(dict):
    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__


def walker(items):
    total = 0
    for item in items:
        total += yield total, item
        yield item


def traced(function):
    @functools.wraps(function)
    def wrapper(*args):
        wrapper.calls += 1
        return function(*args)

    wrapper.calls = 0
    return wrapper


def again(depth):
    def inner(n):
        return inner.base if n == 0 else 1 + inner(n - 1)

    inner.base = depth
    return inner


log = logging.getLogger("objects")
log.setLevel(logging.INFO)
plain = logging.StreamHandler(sys.stdout)
options = argparse.Namespace(rate=0.5, names=["a"])
config = Config(rate=1)
nodes = [Node("first")]
table = weakref.WeakKeyDictionary({nodes[0]: [0]})
names = weakref.WeakValueDictionary({"first": nodes[0]})
living = weakref.WeakSet(nodes)
leaf = Leaf()
moody = Moody(1)
steps = walker([1, 2, 3] * 20)
next(steps)
calls, closures, methods = [], [again(0)], [nodes[0].told]
chain = None
out = open("rows.txt", "w", buffering=1)
for epoch in range(6):
    node = Node(f"n{epoch}", nodes[-1])
    nodes.append(node)
    table[node], names[node.name] = [epoch], node
    living.add(node)
    if epoch == 3:
        del nodes[1], methods[-1]
    leaf.a, leaf.c = epoch, [epoch]
    Base.a.__set__(leaf, -epoch)
    leaf.b = [leaf]
    setattr(leaf, f"extra{epoch % 2}", epoch)
    list(Colour)[epoch % 2].seen += 1
    Counted(epoch)
    Single().total += epoch
    moody.hidden = epoch
    config.rate, options.rate = config.rate * 2, options.rate / 2
    options.names.append(config)
    methods.append(node.told)
    closures.append(again(epoch))
    calls.append(traced(functools.partial(max, epoch) if epoch % 2 else lambda x, e=epoch: x + e))
    calls[-1](1)
    if epoch == 2:
        logging.getLogger().addHandler(plain)
        plain.setFormatter(logging.Formatter("%(levelname)s of the root: %(message)s"))
    if epoch == 4:
        logging.getLogger("objects.part").addFilter(lambda record: "5" not in record.msg)
    for step in range(4):
        chain = collections.ChainMap({"step": step}, chain or {})
        node.drawn = random.random()
        out.write(f"{epoch} {step}\n")
        steps.send(step)
        next(steps)
        #+inner print("@@ inner", epoch, step, node.drawn, len(chain.maps), steps.gi_frame.f_locals["total"], [m() for m in methods])
    log.info("epoch %d", epoch)
    logging.getLogger("objects.part").info("part %d" % epoch)
    #+outer print("@@ weak", [(k.name, v) for k, v in table.items()], sorted(names), sorted(x.name for x in living), methods[0]() is None)
    #+outer print("@@ who", all(n.me is n for n in nodes), [n.before.name for n in nodes[1:]], leaf.b[0] is leaf, sorted(leaf.__dict__))
    #+outer print("@@ said", [c.calls for c in calls], [c(2) for c in closures], [getattr(c, "__name__", "?") for c in calls], Single().total)
    #+outer print("@@ held", [c.seen for c in Colour], Counting.made, Counted.calls, moody.hidden, Moody.opened, config.rate, options.names[1] is config)
    #+outer print("@@ logs", len(logging.root.handlers), out.tell())
    print(epoch, node.drawn, Moody.opened, calls[-1](1), config.rate)
out.close()
#+end print("@@ end", [c.calls for c in calls], [n.name for n in nodes], Counted.calls, moody.__dict__, [c.seen for c in Colour])
