"""scikit-learn's partial_fit, epoch by epoch, with shuffling from the estimator's own generator."""
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils import shuffle

X, y = load_digits(return_X_y=True)
X, y = X[:300], y[:300]
scaler = StandardScaler()
model = SGDClassifier(loss="log_loss", random_state=np.random.RandomState(0))
state = np.random.RandomState(1)
scores = []
for epoch in range(5):
    Xs, ys = shuffle(X, y, random_state=state)
    for start in range(0, 300, 100):
        scaler.partial_fit(Xs[start : start + 100])
        model.partial_fit(scaler.transform(Xs[start : start + 100]), ys[start : start + 100], classes=np.arange(10))
        #+inner print("@@ inner", epoch, start, repr(float(np.abs(model.coef_).sum())), model.t_)
    scores.append(model.score(scaler.transform(X), y))
    #+outer print("@@ outer", epoch, scores, repr(float(model.intercept_.sum())))
    print(f"epoch {epoch} {scores[-1]:.4f}")
