"""Functions and a class defined anew in each iteration of a loop at module level, and used in the next one."""
import numpy as np

rng = np.random.default_rng(5)
w = np.zeros(4)
step = None
for epoch in range(5):
    scale = float(rng.random())

    def step(value, scale=scale):
        return value - 0.1 * scale * (value - 1)

    class Meter:
        def update(self, value):
            self.last = step(value)
            return self.last

    meter = Meter()
    for batch in range(3):
        w = meter.update(w) + rng.normal(size=4)
        #+inner print("@@ inner", epoch, batch, repr(w.sum()), repr(meter.last.sum()))
    #+outer print("@@ outer", epoch, repr(w.tolist()), repr(step(2.0)))
    print(f"epoch {epoch} {w.sum():.4f}")
