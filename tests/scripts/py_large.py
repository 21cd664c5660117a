"""A list of two million numbers that hardly changes, one that does, and structures far deeper than the stack.
# quick: none
"""

import random

import torch

torch.manual_seed(0)
random.seed(0)


class Link:
    def __init__(self, value, before):
        self.value = value
        self.before = before


def length(link):
    n = 0
    while link is not None:
        n, link = n + 1, link.before
    return n


net = torch.nn.Linear(64, 64)
numbers = list(range(2_000_000))
floats = [random.random() for _ in range(100_000)]
words = {i: str(i) for i in range(100_000)}
nested = []
for _ in range(5_000):
    nested = [nested]
last = None
for epoch in range(4):
    for i in range(5_000):
        last = Link(i, last)
    for _ in range(5):
        loss = net(torch.randn(64, 64)).pow(2).mean()
        loss.backward()
        floats[epoch] = loss.item()
        #+inner print("@@ inner", epoch, loss.item(), last.value, floats[0])
    if epoch == 2:
        numbers[77] = -1
        nested = [nested, epoch]
        last.before.before.value = "changed"
    words[-epoch] = numbers[-1]
    #+outer print("@@ outer", epoch, length(last), sum(numbers), sum(floats), len(words), type(nested[0]).__name__)
    print(epoch, loss.item(), numbers[77])
while last is not None:
    last = last.before
while nested:
    nested = nested[0]
