import random


class Model:
    def __init__(self, size):
        self._rng = random.Random(21)
        self.weights = [self._rng.gauss(0, 1) for _ in range(size)]

    def gradient(self):
        gradient = [w + 0.1 * self._rng.gauss(0, 1) for w in self.weights]
        #+method print("@@ method", repr(gradient[0]))
        return gradient

    @property
    def norm(self):
        return sum(w * w for w in self.weights) ** 0.5
