"""One bare helper call in the inner loop (it stopped all of Flor's snapshots), with a module global written by it."""
import random

random.seed(5)
count = 0
seen = []


def log_it(value):
    global count
    count += 1
    if count % 4 == 0:
        seen.append(round(value, 6))


weight = 0.0
for epoch in range(5):
    for step in range(8):
        loss = (weight - random.gauss(1.0, 0.1)) ** 2
        weight -= 0.1 * 2 * (weight - random.gauss(1.0, 0.1))
        log_it(loss)
        #+inner print("@@ inner", epoch, step, repr(loss), count)
    #+outer print("@@ outer", epoch, repr(weight), seen)
    print("epoch", epoch, count)
