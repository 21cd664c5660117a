"""An outer probe reads a name that only the inner loop binds; a probe sits inside a loop that could be skipped."""
import numpy as np

rng = np.random.default_rng(0)


def train(epochs):
    w = rng.normal(size=5)
    for epoch in range(epochs):
        for step in range(30):
            gradient = 2 * w + rng.normal(size=5) * 0.1
            w = w - 0.05 * gradient
            if step % 10 == 9:
                for j in range(3):
                    scale = float(np.abs(w).max()) + j
                    #+deep print("@@ deep", epoch, step, j, repr(scale))
        #+outer print("@@ outer", epoch, step, j, repr(scale), repr(float(np.linalg.norm(gradient))))
        print("epoch", epoch, f"{np.linalg.norm(w):.6f}")


train(6)
