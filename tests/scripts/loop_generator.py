"""The main loop runs over a generator function of the user's own, which holds state and prints."""
import numpy as np


def curriculum(n):
    rng = np.random.default_rng(8)
    difficulty = 0.1
    for stage in range(n):
        difficulty *= 1 + rng.random()
        print("stage", stage)
        yield stage, difficulty
    print("no more stages")


w = np.ones(3)
noise = np.random.RandomState(5)
for stage, difficulty in curriculum(5):
    for step in range(4):
        w = w * 0.9 + difficulty * noise.randn(3)
        #+inner print("@@ inner", stage, step, repr(w.tolist()))
    #+outer print("@@ outer", stage, repr(difficulty), repr(float(w.sum())))
print("end", repr(float(w.sum())))
