"""The main loop runs over enumerate, then a second one over zip of a generator and a list; a step's batch stays bound."""
import random


def rates():
    rate = 1.0
    while True:
        yield rate
        rate *= 0.8


def run():
    rng = random.Random(4)
    w = 0.0
    for number, size in enumerate([4, 3, 5, 4, 6], start=1):
        for _ in range(size):
            w += rng.gauss(0, 1)
            #+inner print("@@ inner", number, size, repr(w))
        #+outer print("@@ outer", number, size, repr(w))
    print("first", f"{w:.9f}")
    for name, rate in zip("abcdef", rates()):
        for step in range(5):
            w -= rate * (w - rng.random())
            #+inner2 print("@@ inner2", name, step, repr(w), repr(rate))
        #+outer2 print("@@ outer2", name, repr(w))
    print("second", f"{w:.9f}")


run()
