"""A loader whose two worker processes draw random numbers, in the only loop of the run and in that of an epoch."""
import torch
from torch.utils.data import DataLoader, Dataset


class Noisy(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return torch.rand(2) + i


torch.manual_seed(0)
loader = DataLoader(Noisy(), batch_size=1, shuffle=True, num_workers=2)
total = torch.zeros(2)
for epoch in range(3):
    for x in loader:
        total = 0.5 * total + x.sum(0) + 0.1 * torch.rand(1)
        #+step print("@@ inner", epoch, repr(total.tolist()))
    print(epoch, f"{total.sum().item():.6f}")
    #+step print("@@ outer", epoch, repr(total.tolist()))
