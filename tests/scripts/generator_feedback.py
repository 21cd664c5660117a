"""A main loop over generators that keep state of their own and look at what the loop's body does; one holds a `finally:`."""
import random

random.seed(4)
weights = [0.0, 0.0]


def epochs(n):
    running = 0.0
    try:
        for number in range(n):
            running = 0.9 * running + sum(weights)
            got = yield number, running
            assert got is None
    finally:
        print("generator ends", number, round(running, 9))


class Countdown:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return self

    def __next__(self):
        if self.n == 0:
            raise StopIteration
        self.n -= 1
        return self.n, weights[0]


for epoch, running in epochs(7):
    for step in range(4):
        weights[step % 2] += random.random() - 0.3 * running
        #+inner print("@@ inner", epoch, step, repr(weights[0]))
    #+outer print("@@ outer", epoch, repr(running), repr(weights))
print("between", weights)
for left, first in Countdown(6):
    weights[left % 2] *= 0.5 + first
    #+countdown print("@@ countdown", left, repr(first), repr(weights[1]))
for (a, b), noise in zip(enumerate(epochs(5), 10), iter(random.random, 2.0)):
    weights[0] += noise * b[1]
    #+zipped print("@@ zipped", a, b, repr(noise), repr(weights[0]))
print("end", weights)
