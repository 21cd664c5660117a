"""Cifr: SqueezeNet on 32x32 images, many short epochs.

    python workloads/cifr.py --scale tiny                # seconds
    python workloads/cifr.py --scale cpu                 # a minute or two, with one thread
    python workloads/cifr.py --scale paper --data cifar-100-python

The script has the shape of PyTorch's MNIST example: `train` and `test` functions, a scheduler, the best model on disk. Without
`--data` (CIFAR's folder of Python batches) an image is a coloured grating under noise, and its class the grating's direction.
"""

import argparse
import math
import os
import pickle

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader, TensorDataset

SCALES = {
    "tiny": dict(epochs=5, images=512, classes=4, width=4, batch_size=32, lr=0.03),
    "cpu": dict(epochs=60, images=2000, classes=10, width=16, batch_size=64, lr=0.02),
    "gpu": dict(epochs=200, images=50000, classes=100, width=64, batch_size=128, lr=0.1),
    "paper": dict(epochs=200, images=50000, classes=100, width=64, batch_size=128, lr=0.1),
}


def gratings(count, classes, generator):
    """Images `(count, 3, 32, 32)` of waves with random phase, frequency and colour, and their classes `(count,)`."""
    labels = torch.randint(classes, (count,), generator=generator)
    angle = (labels * math.pi / classes).view(-1, 1, 1)
    phase, stretch = torch.rand(2, count, 1, 1, generator=generator)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    wave = torch.sin((x * angle.cos() + y * angle.sin()) * (0.5 + 0.3 * stretch) + 2 * math.pi * phase)
    colours = torch.rand(count, 3, 1, 1, generator=generator) * 0.8 + 0.2
    return wave[:, None] * colours + 0.5 * torch.randn(count, 3, 32, 32, generator=generator), labels


def cifar(folder, part):
    """CIFAR-100's pickled batches as float images, normalised, and their fine labels."""
    path = os.path.join(folder, part)
    if not os.path.exists(path):
        raise SystemExit(f"cifr.py: {path} is missing: --data takes the unpacked folder cifar-100-python")
    with open(path, "rb") as file:
        batch = pickle.load(file, encoding="latin1")
    images = torch.from_numpy(batch["data"]).view(-1, 3, 32, 32).float() / 255
    return (images - 0.48) / 0.26, torch.tensor(batch["fine_labels"])


class Fire(nn.Module):
    """Squeeze to few channels, then expand with 1x1 and 3x3 convolutions side by side (Iandola et al., 2016)."""

    def __init__(self, channels, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(channels, squeeze, 1), nn.BatchNorm2d(squeeze), nn.ReLU(inplace=True))
        self.one = nn.Sequential(nn.Conv2d(squeeze, expand, 1), nn.BatchNorm2d(expand), nn.ReLU(inplace=True))
        self.three = nn.Sequential(nn.Conv2d(squeeze, expand, 3, padding=1), nn.BatchNorm2d(expand), nn.ReLU(inplace=True))

    def forward(self, x):
        x = self.squeeze(x)
        return torch.cat([self.one(x), self.three(x)], 1)


def squeezenet(width, classes):
    w = width
    return nn.Sequential(
        nn.Conv2d(3, 2 * w, 3, padding=1), nn.BatchNorm2d(2 * w), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        Fire(2 * w, w // 2, w), Fire(2 * w, w // 2, w), nn.MaxPool2d(2),
        Fire(2 * w, w, 2 * w), Fire(4 * w, w, 2 * w), nn.MaxPool2d(2),
        Fire(4 * w, w, 4 * w),
        nn.Dropout(0.2), nn.Conv2d(8 * w, classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def train(model, device, loader, optimizer, epoch):
    model.train()
    seen, total = 0, 0.0
    for batch_idx, (data, target) in enumerate(loader):
        data, target = data.to(device), target.to(device)
        # The usual augmentation: shift by up to two pixels, mirror nothing, since that would change the class.
        data = torch.roll(data, torch.randint(-2, 3, (2,)).tolist(), (2, 3))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data), target)
        loss.backward()
        optimizer.step()
        seen += len(data)
        total += loss.item() * len(data)
        if batch_idx % 50 == 0:
            print(f"Train Epoch: {epoch} [{seen}/{len(loader.dataset)}]\tLoss: {loss.item():.6f}")
    return total / seen


def test(model, device, loader):
    model.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in loader:
            output = model(data.to(device))
            loss += F.cross_entropy(output, target.to(device), reduction="sum").item()
            correct += output.argmax(1).eq(target.to(device)).sum().item()
    accuracy = 100.0 * correct / len(loader.dataset)
    print(f"Test set: Average loss: {loss / len(loader.dataset):.4f}, Accuracy: {correct}/{len(loader.dataset)} ({accuracy:.1f}%)")
    return accuracy


def main():
    parser = argparse.ArgumentParser(description="SqueezeNet on CIFAR-like images")
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--data", help="the folder cifar-100-python")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", default="cifr_best.pt", help="where the best model is kept")
    args = parser.parse_args()
    scale = SCALES[args.scale]
    epochs = args.epochs or scale["epochs"]
    torch.manual_seed(args.seed)

    if args.data:
        train_set, test_set = cifar(args.data, "train"), cifar(args.data, "test")
    else:
        train_set = gratings(scale["images"], scale["classes"], torch.Generator().manual_seed(args.seed))
        test_set = gratings(scale["images"] // 4, scale["classes"], torch.Generator().manual_seed(args.seed + 1))
    train_loader = DataLoader(TensorDataset(*train_set), batch_size=scale["batch_size"], shuffle=True)
    test_loader = DataLoader(TensorDataset(*test_set), batch_size=500)

    model = squeezenet(scale["width"], scale["classes"]).to(args.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=scale["lr"], momentum=0.9, weight_decay=5e-4, nesterov=True)
    scheduler = MultiStepLR(optimizer, milestones=[epochs * 3 // 5, epochs * 4 // 5], gamma=0.2)

    best_acc = 0.0
    for epoch in range(1, epochs + 1):
        train_loss = train(model, args.device, train_loader, optimizer, epoch)
        acc = test(model, args.device, test_loader)
        scheduler.step()
        if acc > best_acc:
            best_acc = acc
            torch.save(model.state_dict(), args.out)
    model.load_state_dict(torch.load(args.out))
    print(f"last train loss {train_loss:.4f}, best accuracy {best_acc:.1f}%, and once more:")
    test(model, args.device, test_loader)


if __name__ == "__main__":
    main()
