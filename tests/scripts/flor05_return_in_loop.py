"""`return` out of nested loops, and recursion (it unbalanced Flor's stack)."""
import random

random.seed(2)


def search(threshold, depth):
    for attempt in range(20):
        for step in range(5):
            value = random.random()
            #+inner print("@@ inner", depth, attempt, step, repr(value))
            if value > threshold:
                return attempt, step, value
        if depth and attempt == 2:
            return search(threshold - 0.1, depth - 1)
    return None


for epoch in range(6):
    found = search(0.97 - 0.02 * epoch, 2)
    #+outer print("@@ outer", epoch, found)
    print(epoch, found is not None)
