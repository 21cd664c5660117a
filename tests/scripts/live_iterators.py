"""Iterators that live across the iterations of a step loop: made again at an epoch's end, endless, cycled, a user's own."""
import itertools
import random

import torch
from torch.utils.data import DataLoader, TensorDataset


def endless(loader):
    while True:
        for batch in loader:  # noqa: UP028
            yield batch


def noise(scale):
    drift = 0.0
    while True:
        drift += random.gauss(0, scale)
        #+inside print("@@ inside", repr(drift))
        yield drift


torch.manual_seed(0)
random.seed(1)
data = TensorDataset(torch.randn(26, 3), torch.randn(26, 1))
loader = DataLoader(data, batch_size=4, shuffle=True)
first, second, third = iter(loader), endless(DataLoader(data, batch_size=5, shuffle=True)), itertools.cycle(loader)
drifts = noise(0.1)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
step = 0
while step < 20:
    try:
        x, y = next(first)
    except StopIteration:
        first = iter(loader)
        x, y = next(first)
    u, v = next(second)
    p, q = next(third)
    loss = ((model(x) - y) ** 2).mean() + ((model(u) - v) ** 2).mean() + ((model(p) - q) ** 2).mean() + next(drifts)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    step += 1
    #+outer print("@@ outer", step, repr(loss.item()), repr(model.weight.sum().item()))
    print(step, f"{loss.item():.6f}")
