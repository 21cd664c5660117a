"""Few epochs of long steps: segments begin and end within an epoch, at heads of the loop inside."""

import random
import time

random.seed(3)


class Model:
    def __init__(self):
        self.weights = [random.random() for _ in range(4)]
        self.seen = {}

    def step(self, batch):
        time.sleep(0.26)
        self.weights = [w + 0.1 * random.random() * b for w, b in zip(self.weights, batch)]
        self.seen[batch] = self.seen.get(batch, 0) + 1
        return sum(self.weights)


def batches():
    for number in range(5):
        yield (number, random.random(), 1, 2)


def train(model, epoch):
    total = 0.0
    for number, batch in enumerate(batches()):
        loss = model.step(batch)
        total += loss
        #+step print("@@", epoch, number, round(loss, 9), round(total, 9), len(model.seen))
    return total


def main():
    model = Model()
    history = []
    for epoch in range(3):
        print("begin", epoch)
        total = train(model, epoch)
        history.append(total)
        check = 0
        for other in range(3):
            check += other * model.weights[other]
            #+check print("@@", epoch, other, round(check, 9))
        print("epoch", epoch, round(total, 6), round(check, 6))
        #+epoch print("@@", epoch, [round(h, 9) for h in history])
    model.step((1, 2, 3, 4))
    #+after print("@@", [round(w, 9) for w in model.weights])


main()
