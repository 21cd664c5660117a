"""Dropout, shuffling and noise drawn from the global generators, all seeded once (Flor: wrong in all workers but the first)."""
import random

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(7)
np.random.seed(7)
random.seed(7)
print("prologue: printed once, whatever the number of workers")
data = TensorDataset(torch.randn(48, 5), torch.randint(0, 3, (48,)))
loader = DataLoader(data, batch_size=12, shuffle=True)
net = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 3))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)
for epoch in range(5):
    for batch, (x, y) in enumerate(loader):
        x = x + 0.1 * torch.from_numpy(np.random.randn(*x.shape)).float() * random.random()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        #+inner print("@@ inner", epoch, batch, repr(loss.item()))
    scheduler.step()
    #+outer print("@@ outer", epoch, scheduler.get_last_lr(), repr(net[1].running_var.sum().item()), repr(torch.rand(1).item()))
    print(f"{epoch} {loss.item():.6f}")
