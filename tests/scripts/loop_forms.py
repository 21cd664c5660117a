"""Loops in every form that the grammar has, inside an epoch loop that itself ends by `break` with an `else:` behind it."""
import contextlib
import itertools
import random

random.seed(11)
log = []
counter = 0
seen = {}


def star_targets(epoch):
    total = 0
    for first, *rest in [(1, 2, 3), (4,), (5, 6)]:
        total += first + len(rest) + epoch
    for (a, (b, c)), d in [((1, (2, 3)), 4)] * 2:
        total += a * b * c * d
    return total, first, rest, d


def attribute_and_subscript_targets(epoch):
    class Box:
        pass

    box, cells = Box(), [0, 0, 0]
    for box.value in range(3):
        cells[box.value] += epoch
    for cells[1] in (7, 8, 9):
        pass
    return box.value, cells


def while_else(epoch):
    n, out = epoch, []
    while n < 4:
        n += 1
        if n == 3:
            continue
        out.append(n)
    else:
        out.append("else")
    while n:
        n -= 1
        if n == 1:
            break
    else:
        out.append("never")
    return out, n


def nested_breaks(epoch):
    out = []
    for i in range(4):
        for j in range(4):
            if j > i:
                break
            if (i + j + epoch) % 3 == 0:
                continue
            out.append((i, j))
            #+nested print("@@ nested", epoch, i, j, len(out))
        else:
            out.append("full")
    return out


def returns_from_within(epoch):
    for i in itertools.count():
        with contextlib.suppress(ZeroDivisionError):
            try:
                for j in range(3):
                    if i * j > epoch:
                        return i, j
                    1 // (j - 1)
            finally:
                log.append((epoch, i))


def raises_from_within(epoch):
    try:
        for i in range(10):
            while True:
                if i == epoch:
                    raise KeyError(i)
                break
    except KeyError as error:
        return error.args


def walrus_and_match(epoch):
    values, out = iter([3, 1, 2, 0, 5]), []
    while (v := next(values)) != 0:
        match v + epoch:
            case 1 | 2:
                out.append("small")
            case int(x) if x > 4:
                out.append(x)
            case _:
                out.append(None)
    return out, list(values)


def scopes(epoch):
    global counter
    local = 0

    def bump(by):
        nonlocal local
        global counter
        for _ in range(by):
            local += 1
            counter += 1

    for by in (1, 2, 3):
        bump(by)
        #+scopes print("@@ scopes", epoch, by, local, counter)
    return local, counter


def deletions(epoch):
    d = {k: k * k for k in range(5)}
    for k in list(d):
        if k % 2 == epoch % 2:
            del d[k]
        last = k
    del last
    try:
        return d, last
    except UnboundLocalError:
        return d, "unbound"


def comprehensions(epoch):
    rows = [[i * j for j in range(3)] for i in range(3)]
    for row in rows:
        row[:] = [x + epoch for x in row if x != 2]
    return rows, {k: v for k, v in zip("ab", (y for y in range(9)))}


def recursion(n, epoch):
    out = [n]
    for k in range(n):
        out.append(recursion(k, epoch))
    return out


def generator(n):
    for i in range(n):
        got = yield i
        if got:
            n += 1


def consumes(epoch):
    g, out = generator(3), []
    for x in g:
        out.append(x)
        if x == 1 and len(out) < 9:
            out.append(g.send(True))
    return out


def shadowed(epoch):
    range, iter, len = [3, 2, 1], 5, "len"
    for x in range:
        log.append(x)
    return x, iter, len


def changes_what_it_iterates(epoch):
    items = [1]
    for x in items:
        if len(items) < 4 + epoch:
            items.append(x + 1)
    return items


FORMS = [
    star_targets, attribute_and_subscript_targets, while_else, nested_breaks, returns_from_within, raises_from_within,
    walrus_and_match, scopes, deletions, comprehensions, consumes, shadowed, changes_what_it_iterates,
]  # fmt: skip

for epoch in itertools.count():
    noise = random.random()
    for form in FORMS:
        seen[form.__name__, epoch] = form(epoch)
        #+form print("@@ form", epoch, form.__name__, seen[form.__name__, epoch])
    tree = recursion(3, epoch)
    print("epoch", epoch, round(noise, 6), counter, len(log), tree)
    #+outer print("@@ outer", epoch, repr(noise), log[-3:], sorted(seen.values(), key=repr)[-1])
    if epoch == 4:
        break
else:
    print("never printed")
print("end", counter, len(log), noise)
#+after print("@@ after", counter, log[:5], epoch, form.__name__)
