"""An epoch loop without a bare call (Flor took it for a skippable block)."""
import numpy as np

rng = np.random.default_rng(3)
X = rng.normal(size=(60, 4))
y = X @ np.array([1.0, -2.0, 0.5, 3.0]) + 0.1 * rng.normal(size=60)
w = np.zeros(4)
history = []
for epoch in range(6):
    #+early print("@@ early", epoch, repr(w.tolist()))
    order = rng.permutation(60)
    loss = 0.0
    for i in range(0, 60, 10):
        b = order[i : i + 10]
        error = X[b] @ w - y[b]
        w = w - 0.05 * X[b].T @ error / 10
        loss += float(error @ error)
        #+inner print("@@ inner", epoch, i, repr(loss), repr(float(w[0])))
    history += [loss]
    #+outer print("@@ outer", epoch, repr(loss), history)
print("final", repr(w.tolist()), len(history))
#+after print("@@ after", repr(loss), epoch)
