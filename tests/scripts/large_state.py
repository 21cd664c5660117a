"""State that is staged and hashed later: large tensors and arrays of which some change everywhere, some in a few rows, some through an
alias that torch does not count, some never, and some that are new at each epoch."""
import numpy as np
import torch

torch.manual_seed(5)
rng = np.random.default_rng(5)
table = torch.nn.Embedding(24_000, 64)
head = torch.nn.Linear(64, 3)
frozen = torch.nn.Linear(64, 16_000)
frozen.requires_grad_(False)
optimizer = torch.optim.SGD([*table.parameters(), *head.parameters()], lr=0.1, momentum=0.9)
averages = np.zeros((24_000, 64), np.float32)
alias = torch.from_numpy(averages)
data = rng.integers(0, 24_000, size=(40, 50))
switching = [np.zeros(200_000), np.ones(200_000)]
kept = []


def digest(array):
    return repr(float(np.abs(np.asarray(array, np.float64)).sum()))


for epoch in range(6):
    noise = rng.normal(size=(2, 300_000))
    switching.reverse()
    if epoch % 3 == 2:
        switching[0] += epoch
    for start in range(0, 40, 20):
        batch = torch.from_numpy(data[start : start + 20])
        features = table(batch).mean(1) + frozen.weight[epoch] + float(noise[0, start])
        loss = torch.nn.functional.cross_entropy(head(features), batch[:, 0] % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        averages[data[start]] += 0.5 * table.weight.detach().numpy()[data[start]]
        #+inner print("@@ inner", epoch, start, repr(loss.item()), digest(averages), digest(noise))
    if epoch == 3:
        frozen.weight.data[7] += 1  # once, after it had been the same at many snapshots
        kept.append(noise[1, 100:])
    #+outer print("@@ outer", epoch, digest(table.weight.detach()), digest(frozen.weight), alias.data_ptr() == averages.ctypes.data)
    #+outer print("@@ others", digest(switching[0]), digest(switching[1]), [digest(k) for k in kept], digest(optimizer.state[table.weight]["momentum_buffer"]))
    print(f"{epoch} {loss.item():.6f} {averages.sum():.4f}")
print("end", digest(table.weight.detach()), digest(noise), len(kept))
