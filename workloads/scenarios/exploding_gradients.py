"""A recurrent net learns to add two marked numbers of a sequence; after a while its loss jumps, and nobody logged why."""

import argparse

import torch
import torch.nn as nn


def batch(size, length):
    """Sequences of (number, mark); the target is the sum of the two marked numbers."""
    numbers = torch.rand(size, length)
    marks = torch.zeros(size, length)
    first = torch.randint(0, length // 2, (size,))
    second = torch.randint(length // 2, length, (size,))
    rows = torch.arange(size)
    marks[rows, first] = marks[rows, second] = 1.0
    return torch.stack([numbers, marks], dim=2), numbers[rows, first] + numbers[rows, second]


class Adder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.rnn = nn.RNN(2, width, nonlinearity="relu", batch_first=True)
        self.out = nn.Linear(width, 1)
        nn.init.orthogonal_(self.rnn.weight_hh_l0)

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.out(states[:, -1]).squeeze(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.02)
    args = parser.parse_args()

    torch.manual_seed(3)
    model = Adder(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    for epoch in range(args.epochs):
        total = 0.0
        for step in range(args.steps):
            x, target = batch(64, args.length)
            loss = nn.functional.mse_loss(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: loss {total / args.steps:.4g}")


if __name__ == "__main__":
    main()
