"""Two trainings one after the other with one `fit`; a timing context manager; NumPy's random imported inside the loop."""
import contextlib
import time

import numpy as np

times = {}


@contextlib.contextmanager
def timed(name):
    begin = time.perf_counter()
    yield
    times[name] = times.get(name, 0.0) + time.perf_counter() - begin


class Trainer:
    def __init__(self):
        self.weight = np.zeros(3)
        self.steps = 0

    def fit(self, stage, epochs, rate):
        with timed(stage):
            for epoch in range(epochs):
                time.sleep(0.02)
                if stage == "pretrain" and epoch == 1:
                    np.random.seed(3)
                for _ in range(4):
                    noise = np.random.rand(3) if epoch else np.ones(3)
                    self.weight += rate * (noise - self.weight)
                    self.steps += 1
                #+outer print("@@ outer", stage, epoch, self.steps, repr(float(self.weight.sum())), sorted(times))
                if abs(self.weight.sum()) > 100:
                    break
            print(stage, epoch, round(float(self.weight.sum()), 6))
        #+outer print("@@ fitted", stage, self.steps)


trainer = Trainer()
trainer.fit("pretrain", 5, 0.1)
trainer.fit("finetune", 6, 0.3)
trainer.fit("polish", 4, 0.01)
print("steps", trainer.steps, all(t > 0 for t in times.values()))
#+outer print("@@ end", times["pretrain"] > 0, repr(float(trainer.weight[0])))
