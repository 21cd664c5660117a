"""Folds around epochs around batches: a new net for every fold, and a sum over folds of a call that holds the loop."""
import numpy as np
from sklearn.model_selection import KFold

rng = np.random.default_rng(6)
X = rng.normal(size=(60, 5))
y = X @ rng.normal(size=5) + 0.1 * rng.normal(size=60)


def train(fold, train_index, test_index):
    w = np.zeros(5)
    for epoch in range(3):
        order = rng.permutation(train_index)
        for batch in np.array_split(order, 4):
            w -= 0.1 * X[batch].T @ (X[batch] @ w - y[batch]) / len(batch)
            #+inner print("@@ inner", fold, epoch, repr(w.tolist()))
        #+epoch print("@@ epoch", fold, epoch, repr(float(w @ w)))
    return float(((X[test_index] @ w - y[test_index]) ** 2).mean())


total = 0.0
for fold, (train_index, test_index) in enumerate(KFold(5, shuffle=True, random_state=0).split(X)):
    total = total + train(fold, train_index, test_index)
    #+fold print("@@ fold", fold, repr(total))
    print(f"fold {fold} {total:.8f}")
print("mean", f"{total / 5:.8f}")
