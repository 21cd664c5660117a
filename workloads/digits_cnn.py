"""Train a small convolutional net on scikit-learn's handwritten digits (bundled with it, so nothing is downloaded).

    python workloads/digits_cnn.py                    # 10 epochs, about 95 % after a few seconds
    python workloads/digits_cnn.py --epochs 2 --width 4
"""

import argparse
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset


class Digits(Dataset):
    """1,797 images of 8x8 pixels; those for training are shifted by up to a pixel each time it is read."""

    def __init__(self, train):
        images, labels = load_digits(return_X_y=True)
        # Every sixth image is held out.
        chosen = [index for index in range(len(labels)) if (index % 6 != 0) == train]
        self.images = torch.tensor(images[chosen], dtype=torch.float32).view(-1, 1, 8, 8) / 16
        self.labels = torch.tensor(labels[chosen])
        self.augment = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        if self.augment:
            shifts = torch.randint(-1, 2, (2,)).tolist()
            image = torch.roll(image, shifts, dims=(1, 2))
        return image, self.labels[index]


class Net(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(2 * width * 4, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.dropout(torch.flatten(x, 1))
        x = F.relu(self.fc1(x))
        return F.log_softmax(self.fc2(x), dim=1)


def train(args, model, loader, optimizer, epoch):
    model.train()
    total = 0.0
    for step, (data, target) in enumerate(loader):
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(data)
        if step % args.log_interval == 0:
            print(f"train epoch {epoch} [{step * args.batch_size}/{len(loader.dataset)}] loss {loss.item():.6f}")
    return total / len(loader.dataset)


def test(model, loader):
    model.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in loader:
            output = model(data)
            loss += F.nll_loss(output, target, reduction="sum").item()
            correct += (output.argmax(dim=1) == target).sum().item()
    return loss / len(loader.dataset), correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description="A small convolutional net on handwritten digits")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--gamma", type=float, default=0.7, help="factor on the learning rate every second epoch")
    parser.add_argument("--width", type=int, default=16, help="channels of the first convolution")
    parser.add_argument("--dropout", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-interval", type=int, default=10)
    parser.add_argument("--out", default="digits_out", help="folder of the best checkpoint")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    os.makedirs(args.out, exist_ok=True)
    train_loader = DataLoader(Digits(train=True), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(Digits(train=False), batch_size=256)
    model = Net(args.width, args.dropout)
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    scheduler = StepLR(optimizer, step_size=2, gamma=args.gamma)

    best = 0.0
    for epoch in range(1, args.epochs + 1):
        train_loss = train(args, model, train_loader, optimizer, epoch)
        test_loss, accuracy = test(model, test_loader)
        scheduler.step()
        print(f"epoch {epoch}: train loss {train_loss:.4f}, test loss {test_loss:.4f}, accuracy {accuracy:.4f}")
        if accuracy > best:
            best = accuracy
            torch.save({"epoch": epoch, "model": model.state_dict()}, os.path.join(args.out, "best.pt"))

    # What counts is the best epoch, not the last one.
    checkpoint = torch.load(os.path.join(args.out, "best.pt"))
    model.load_state_dict(checkpoint["model"])
    print(f"best: epoch {checkpoint['epoch']}, accuracy {test(model, test_loader)[1]:.4f}")


if __name__ == "__main__":
    main()
