"""Which names keep values between iterations, so that replay must not jump over any."""

from __future__ import annotations

import ast

import pytest

from flor_trace.replay.carry import CALLER
from flor_trace.replay.diff import SourceDiff, diff


def source(text: str) -> SourceDiff:
    """Lines that end in `#+` are hindsight: absent in the recorded source."""
    recorded = "\n".join(line for line in text.splitlines() if not line.rstrip().endswith("#+"))
    found = diff(recorded.encode(), text.encode(), "m")
    ast.parse(text)
    return found


def carried(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    result = source(text)
    assert not result.changes, result.changes
    for statement in result.hindsight:
        for loop, names in statement.carried.items():
            found.setdefault(loop, set()).update(names)
        assert statement.carried_names == set().union(*statement.carried.values())
    return found


MAIN = "m:<module>:0"
INNER = "m:<module>:1"

CARRIED = {
    "counter": ("""
count = 0 #+
for e in range(9):
    step()
    count += 1 #+
    print(count) #+
""", {MAIN: {"count"}}),
    "list": ("""
norms = [] #+
for e in range(9):
    step()
    norms.append(e) #+
""", {MAIN: {"norms"}}),
    "list printed after": ("""
norms = [] #+
for e in range(9):
    norms.append(e) #+
    step()
print(norms) #+
""", {MAIN: {"norms"}}),
    "dict": ("""
seen = {} #+
for e in range(9):
    seen[e] = 1 #+
    step()
""", {MAIN: {"seen"}}),
    "read before bound": ("""
previous = None #+
for e in range(9):
    loss = step()
    print(previous) #+
    previous = loss #+
""", {MAIN: {"previous"}}),
    "bound under a condition": ("""
for e in range(9):
    loss = step()
    if e % 2: #+
        norm = f(loss) #+
    print(norm) #+
""", {MAIN: {"norm"}}),
    "bound in a try": ("""
for e in range(9):
    loss = step()
    try: #+
        norm = f(loss) #+
    except ValueError: #+
        pass #+
    print(norm) #+
""", {MAIN: {"norm"}}),
    "bound in a loop that may be empty": ("""
for e in range(9):
    loss = step()
    for p in ps: #+
        norm = f(p) #+
    print(norm) #+
""", {MAIN: {"norm"}}),
    "itself": ("""
for e in range(9):
    loss = step()
    best = loss if e == 0 else min(best, loss) #+
""", {MAIN: {"best"}}),
    "inner total": ("""
for e in range(9):
    total = 0 #+
    for b in loader:
        step(b)
        total += b #+
    print(total) #+
""", {INNER: {"total"}}),
    "outer total": ("""
total = 0 #+
for e in range(9):
    for b in loader:
        step(b)
        total += b #+
print(total) #+
""", {MAIN: {"total"}, INNER: {"total"}}),
    "attribute": ("""
def train(self):
    for e in range(9):
        step()
        self.count += 1 #+
""", {"m:train:0": {"self.count"}, CALLER: {"self.count"}}),
    "attribute made elsewhere": ("""
class T:
    def __init__(self):
        self.x = 1
        self.hist = [] #+
    def train(self):
        for e in range(9):
            step()
            self.hist.append(e) #+
""", {"m:T.train:0": {"self.hist"}, CALLER: {"self.hist"}}),
    "attribute of an item": ("""
models[0].hist = [] #+
for e in range(9):
    step()
    models[0].hist.append(e) #+
""", {MAIN: {"?.hist"}}),
    "setattr": ("""
for e in range(9):
    step()
    setattr(net, "n", getattr(net, "n", 0) + 1) #+
""", {MAIN: {"net.n"}}),
    "global list used in a function": ("""
norms = [] #+
def train(m):
    m.step()
    norms.append(m) #+
for e in range(9):
    train(m)
""", {CALLER: {"norms"}}),
    "global counter in a new function": ("""
count = 0 #+
def tick(): #+
    global count #+
    count += 1 #+
for e in range(9):
    step()
    tick() #+
""", {CALLER: {"count"}}),
    "mutable default": ("""
def tick(seen=[]): #+
    seen.append(1) #+
for e in range(9):
    step()
    tick() #+
""", {MAIN: {"tick"}}),
    "class attribute": ("""
class Meter: #+
    total = 0 #+
for e in range(9):
    step()
    Meter.total += 1 #+
""", {MAIN: {"Meter", "Meter.total"}}),
    "object": ("""
meter = AverageMeter() #+
for e in range(9):
    step()
    meter.update(e) #+
""", {MAIN: {"meter"}}),
    "iterator": ("""
it = iter(data) #+
for e in range(9):
    step()
    print(next(it)) #+
""", {MAIN: {"it"}}),
    "alias of a list": ("""
log = [] #+
for e in range(9):
    step()
    mine = log #+
    mine.append(e) #+
""", {MAIN: {"log"}}),
    "constant rebound": ("""
first = True #+
for e in range(9):
    step()
    if first: #+
        print(e) #+
    first = False #+
""", {MAIN: {"first"}}),
    "constant bound late in the loop": ("""
for e in range(9):
    loss = step()
    if e > 3: #+
        print(late) #+
    late = 1 #+
""", {MAIN: {"late"}}),
    "import under a condition": ("""
for e in range(9):
    loss = step()
    if e == 0: #+
        import math #+
    print(math.pi) #+
""", {MAIN: {"math"}}),
    "while": ("""
n = 0 #+
while True:
    n = n + 1 #+
    if step():
        break
""", {MAIN: {"n"}}),
    "closure": ("""
def main():
    seen = [] #+
    def hook(x):
        y = x
        seen.append(y) #+
    run(hook)
""", {CALLER: {"seen"}}),
    "generator local": ("""
def batches():
    n = 0 #+
    for x in data:
        n += 1 #+
        print(n) #+
        yield x
""", {CALLER: {"n"}}),
    "walrus in a condition": ("""
for e in range(9):
    step()
    a = e and (w := f(e)) #+
    print(w) #+
""", {MAIN: {"w"}}),
    "lambda": ("""
seen = [] #+
for e in range(9):
    step()
    run(lambda x: seen.append(x)) #+
""", {MAIN: {"seen"}}),
    "deleted": ("""
for e in range(9):
    x = f() #+
    del x #+
    step()
    print(x) #+
""", {MAIN: {"x"}}),
    "suppressed": ("""
for e in range(9):
    with suppress(ValueError): #+
        x = f() #+
    step()
    print(x) #+
""", {MAIN: {"x"}}),
    "exec": ("""
for e in range(9):
    step()
    exec("n = n + 1") #+
""", {MAIN: {"exec"}}),
}  # fmt: skip

FREE = {
    "bound in the iteration": """
for e in range(9):
    loss = step()
    norm = f(loss) #+
    print(norm) #+
""",
    "bound before an inner loop": """
for e in range(9):
    scale = f(e) #+
    step()
    for p in ps: #+
        print(p, scale) #+
""",
    "list made in each iteration": """
for e in range(9):
    norms = [] #+
    step()
    for p in ps: #+
        norms.append(p) #+
    print(norms) #+
""",
    "only recorded names": """
history = []
for e in range(9):
    loss = step()
    history.append(loss)
    print(loss, history, e) #+
""",
    "imports and functions": """
import math #+
def norm(m): #+
    total = 0 #+
    for p in m: #+
        total += p #+
    return math.sqrt(total) #+
for e in range(9):
    step()
    print(norm(m), math.pi) #+
""",
    "class instantiated in the loop": """
class Probe: #+
    def show(self): #+
        print(self) #+
for e in range(9):
    step()
    Probe() #+
""",
    "constants": """
EPS = 1e-8 #+
NAMES = ("a", "b") #+
for e in range(9):
    step()
    print(EPS, NAMES) #+
""",
    "immutable values": """
n_params = int(sum(p.numel() for p in ps)) #+
start = time.time() #+
for e in range(9):
    step()
    print(n_params, start) #+
""",
    "both branches": """
for e in range(9):
    loss = step()
    if e: #+
        norm = 1 #+
    else: #+
        norm = f(loss) #+
    print(norm) #+
""",
    "with": """
for e in range(9):
    loss = step()
    with torch.no_grad(): #+
        norm = f(loss) #+
    print(norm) #+
""",
    "locals of a function": """
def train(m):
    total = 0 #+
    m.step()
    total += 1 #+
    print(total) #+
for e in range(9):
    train(m)
""",
    "comprehension": """
for e in range(9):
    step()
    print(sum(p for p in ps if p), [q for q in ps]) #+
""",
    "lambda parameter": """
for e in range(9):
    step()
    k = 1 #+
    print(sorted(ps, key=lambda t: t[k])) #+
""",
    "attribute set before": """
def train(self):
    for e in range(9):
        step()
        self.norm = f() #+
        print(self.norm) #+
""",
    "no loop at all": """
count = 0 #+
count += 1 #+
step()
print(count) #+
""",
    "walrus": """
for e in range(9):
    step()
    if (n := f()) > 3: #+
        print(n) #+
    print(n) #+
""",
    "module attribute of the same name": """
import torch
def train(self):
    for e in range(9):
        step()
        self.norm = torch.norm(e) #+
""",
    "recorded name bound first": """
for e in range(9):
    loss = step()
    loss = loss * 2 #+
    print(loss) #+
""",
    "unpacking": """
for e in range(9):
    step()
    a, (b, *c) = f() #+
    print(a, b, c) #+
""",
    "a loop variable of a recorded loop": """
for e in range(9):
    step()
    for e in range(2): #+
        print(e) #+
""",
}


@pytest.mark.parametrize("name", CARRIED)
def test_carried(name: str) -> None:
    text, expected = CARRIED[name]
    assert carried(text) == expected


@pytest.mark.parametrize("name", FREE)
def test_not_carried(name: str) -> None:
    assert carried(FREE[name]) == {}
