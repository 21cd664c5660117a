"""New statements read variables of enclosing functions: in closures made in the loop or before, and around a loop."""
import random

random.seed(3)


def build(offset):
    factor, label = random.random(), f"<{offset}>"  # noqa: F841 - for the probes

    def scale(x):
        #+made print("@@ made", label, offset, repr(x * factor))
        return x * factor

    return scale


def train(epochs):
    rate, unused = 0.5, [0]
    history = []
    fixed = build(100)

    def inner(n):
        #+frame print("@@ frame", rate, unused, epoch)
        total = 0.0
        for k in range(n):  # noqa: B007
            total += random.random()
            #+loop print("@@ loop", rate, unused, epoch, k)
        return total

    for epoch in range(epochs):
        scale = build(epoch)

        def report(x):
            #+closure print("@@ closure", epoch, unused, repr(x), len(history))
            return x + 1

        rate *= 0.9
        unused[0] += 1
        value = report(scale(fixed(inner(3) + rate)))
        history.append((value, report))
        value = history[epoch // 2][1](value)
        #+outer print("@@ outer", epoch, repr(value))
        print(epoch, f"{value:.6f}")


train(8)
