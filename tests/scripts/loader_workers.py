"""Loaders whose worker processes draw random numbers: anew in every epoch, or kept from epoch to epoch; an iterator held across steps.
# quick: none
"""
import random

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info


class Noisy(Dataset):
    def __init__(self, n):
        self.n, self.cache, self.epoch = n, {}, 0

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i not in self.cache:
            self.cache[i] = torch.rand(3)
        return self.cache[i] + torch.rand(3) + random.random() + float(np.random.rand()) + i + self.epoch


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = get_worker_info()
        for i in range(info.id, self.n, info.num_workers):
            yield torch.rand(2) + i


def init(worker_id):
    random.seed(worker_id + torch.initial_seed() % 1000)


torch.manual_seed(0)
data = Noisy(6)
loader = DataLoader(data, batch_size=2, shuffle=True, num_workers=2, worker_init_fn=init, prefetch_factor=3)
kept = DataLoader(Noisy(4), batch_size=2, shuffle=True, num_workers=1, persistent_workers=True)
stream = DataLoader(Stream(5), batch_size=2, num_workers=2)
held = iter(DataLoader(Noisy(3), num_workers=1))
total = 0.0
for epoch in range(3):
    data.epoch = epoch
    for x in loader:
        total = 0.9 * total + x.sum().item()
        #+inner print("@@ inner", epoch, repr(total))
    for x in kept:
        total += x.sum().item() * 0.1
        #+kept print("@@ kept", epoch, repr(total))
    for x in stream:
        total += x.sum().item() * 0.01
    total += next(held).sum().item()
    print(epoch, f"{total:.6f}", len(data.cache))
