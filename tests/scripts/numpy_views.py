"""NumPy only: a two-layer net by hand, momentum in place, views of one buffer, a best copy, a Generator."""
import numpy as np

rng = np.random.default_rng(42)
X = rng.normal(size=(80, 3))
Y = np.sin(X.sum(1, keepdims=True))
flat = rng.normal(size=3 * 8 + 8) * 0.3
W1, W2 = flat[:24].reshape(3, 8), flat[24:].reshape(8, 1)
velocity = np.zeros_like(flat)
best, best_loss = flat, np.inf
for epoch in range(8):
    for start in range(0, 80, 20):
        index = rng.choice(80, 20, replace=False)
        h = np.tanh(X[index] @ W1)
        error = h @ W2 - Y[index]
        g2 = h.T @ error / 20
        g1 = X[index].T @ ((error @ W2.T) * (1 - h * h)) / 20
        velocity *= 0.9
        velocity -= 0.1 * np.concatenate([g1.ravel(), g2.ravel()])
        flat += velocity
        #+inner print("@@ inner", epoch, start, repr(float((error**2).mean())), np.shares_memory(W1, flat))
    loss = float(((np.tanh(X @ W1) @ W2 - Y) ** 2).mean())
    if loss < best_loss:
        best, best_loss = flat.copy(), loss
    #+outer print("@@ outer", epoch, repr(loss), repr(best.tolist()[:2]), best is flat)
    print(f"{epoch} {loss:.10f}")
print(f"best {best_loss:.10f} {best.sum():.10f}")
