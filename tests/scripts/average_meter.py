"""AverageMeter objects fed with time.time(): what they print depends on the clock, the rest must not.
# clock: ^.clock.
"""
import random
import time


class AverageMeter:
    def __init__(self, name):
        self.name = name
        self.reset()

    def reset(self):
        self.value = self.sum = self.count = self.average = 0

    def update(self, value, n=1):
        self.value = value
        self.sum += value * n
        self.count += n
        self.average = self.sum / self.count


random.seed(0)
seconds, losses = AverageMeter("time"), AverageMeter("loss")
end = time.time()
weight = 5.0
for epoch in range(5):
    losses.reset()
    for step in range(6):
        gradient = weight + random.gauss(0, 0.1)
        weight -= 0.1 * gradient
        losses.update(gradient**2, 4)
        seconds.update(time.time() - end)
        end = time.time()
        #+inner print("@@ inner", epoch, step, repr(losses.average), seconds.count)
    #+outer print("@@ outer", epoch, repr(losses.average), repr(weight), seconds.count)
    print(f"[clock] epoch {epoch} took {seconds.sum:.9f}")
    print(f"epoch {epoch} loss {losses.average:.9f}")
