"""A wide net on few handwritten digits: training loss goes to nothing, test loss to nowhere."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 40

images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
# One label in five is wrong, as when many people have labelled in a hurry.
generator = torch.Generator().manual_seed(11)
wrong = torch.rand(len(labels), generator=generator) < 0.2
noisy = torch.where(wrong, torch.randint(0, 10, labels.shape, generator=generator), labels)

torch.manual_seed(7)
train = DataLoader(TensorDataset(images[:400], noisy[:400]), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)


def test_loss():
    model.eval()
    with torch.no_grad():
        return nn.functional.cross_entropy(model(images[900:]), labels[900:]).item()


for epoch in range(EPOCHS):
    model.train()
    total = 0.0
    for x, y in train:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
    print(f"epoch {epoch}: train loss {total / 400:.4f}, test loss {test_loss():.4f}")
