"""RsNt: ResNet-152 on 32x32 images, driven by a trainer with meters and callbacks.

    python workloads/rsnt.py --scale tiny                # seconds, a ResNet of 14 layers
    python workloads/rsnt.py --scale cpu                 # a minute or two, with one thread
    python workloads/rsnt.py --scale paper --data cifar-100-python

Everything that changes hangs on one object, as in most home-made training frameworks. Without `--data` (CIFAR's folder of Python
batches) the images are noisy drawings of squares, discs, crosses and rings.
"""

import argparse
import os
import pickle
import random
from collections import defaultdict
from copy import deepcopy

import torch
import torch.nn as nn

SCALES = {
    "tiny": dict(blocks=(1, 1, 1, 1), width=4, epochs=4, images=256, batch_size=16, lr=0.05),
    "cpu": dict(blocks=(3, 4, 6, 3), width=8, epochs=13, images=2048, batch_size=64, lr=0.05),
    "gpu": dict(blocks=(3, 8, 36, 3), width=64, epochs=20, images=50000, batch_size=128, lr=0.1),
    "paper": dict(blocks=(3, 8, 36, 3), width=64, epochs=200, images=50000, batch_size=128, lr=0.1),
}


# ---- data ----------------------------------------------------------------------------------------------------------


class Drawings(torch.utils.data.Dataset):
    """Figures of random place, size and colour, drawn when they are asked for; the class is the figure."""

    names = ("square", "disc", "cross", "ring")

    def __init__(self, count, seed):
        self.seeds = [seed * 1_000_003 + number for number in range(count)]

    def __len__(self):
        return len(self.seeds)

    def __getitem__(self, index):
        rng = random.Random(self.seeds[index])
        label = rng.randrange(len(self.names))
        x, y, size = rng.uniform(10, 22), rng.uniform(10, 22), rng.uniform(6, 9)
        rows, columns = torch.arange(32.0)[:, None] - y, torch.arange(32.0)[None, :] - x
        away = (rows**2 + columns**2).sqrt()
        figure = (
            (rows.abs() < size) & (columns.abs() < size),
            away < size,
            ((rows.abs() < 2) | (columns.abs() < 2)) & (rows.abs() < size) & (columns.abs() < size),
            (away < size) & (away > 0.6 * size),
        )[label]
        colour = torch.tensor([rng.uniform(0.4, 1.0) for _ in range(3)])[:, None, None]
        noise = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(self.seeds[index]))
        return figure * colour * 2 - 0.5 + 0.3 * noise, label


def cifar(folder, part):
    path = os.path.join(folder, part)
    if not os.path.exists(path):
        raise SystemExit(f"rsnt.py: {path} is missing: --data takes the unpacked folder cifar-100-python")
    with open(path, "rb") as file:
        batch = pickle.load(file, encoding="latin1")
    images = torch.from_numpy(batch["data"]).view(-1, 3, 32, 32).float() / 255
    return torch.utils.data.TensorDataset((images - 0.48) / 0.26, torch.tensor(batch["fine_labels"]))


# ---- model ---------------------------------------------------------------------------------------------------------


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, channels, width, stride):
        super().__init__()
        out = width * self.expansion
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.shortcut = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet with bottlenecks for small images: a 3x3 stem without pooling (He et al., 2016)."""

    def __init__(self, blocks, width, classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        channels, stages = width, []
        for stage, count in enumerate(blocks):
            for block in range(count):
                stride = 2 if stage and not block else 1
                stages.append(Bottleneck(channels, width << stage, stride))
                channels = (width << stage) * Bottleneck.expansion
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        return self.fc(self.stages(self.stem(x)).mean((2, 3)))


# ---- training ------------------------------------------------------------------------------------------------------


class Meter:
    """A running mean."""

    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, count=1):
        self.sum += value * count
        self.count += count

    @property
    def mean(self):
        return self.sum / max(self.count, 1)


class Callback:
    def on_epoch_end(self, trainer):
        pass

    def on_fit_end(self, trainer):
        pass


class KeepBest(Callback):
    """Remembers the best weights, and puts them back when training is over."""

    def __init__(self):
        self.score, self.weights, self.epoch = -1.0, None, None

    def on_epoch_end(self, trainer):
        score = trainer.history["val_accuracy"][-1]
        if score > self.score:
            self.score, self.epoch = score, trainer.epoch
            self.weights = deepcopy(trainer.model.state_dict())

    def on_fit_end(self, trainer):
        trainer.model.load_state_dict(self.weights)


class Report(Callback):
    def on_epoch_end(self, trainer):
        figures = ", ".join(f"{name} {values[-1]:.4f}" for name, values in sorted(trainer.history.items()))
        print(f"[{trainer.epoch + 1}/{trainer.epochs}] {figures}")


class Trainer:
    def __init__(self, model, train_set, val_set, scale, epochs, device, callbacks):
        self.model = model.to(device)
        self.loaders = {
            "train": torch.utils.data.DataLoader(train_set, scale["batch_size"], shuffle=True, drop_last=True),
            "val": torch.utils.data.DataLoader(val_set, 128),
        }
        self.optimizer = torch.optim.SGD(model.parameters(), lr=scale["lr"], momentum=0.9, weight_decay=5e-4)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, epochs)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
        self.epochs, self.epoch, self.device = epochs, 0, device
        self.callbacks = callbacks
        self.history = defaultdict(list)

    def run_epoch(self, phase):
        training = phase == "train"
        self.model.train(training)
        meters = defaultdict(Meter)
        with torch.set_grad_enabled(training):
            for images, labels in self.loaders[phase]:
                self.step(images.to(self.device), labels.to(self.device), meters, training)
        for name, meter in meters.items():
            self.history[f"{phase}_{name}"].append(meter.mean)

    def step(self, images, labels, meters, training):
        output = self.model(images)
        loss = self.criterion(output, labels)
        if training:
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        meters["loss"].update(loss.item(), len(labels))
        meters["accuracy"].update((output.argmax(1) == labels).float().mean().item(), len(labels))

    def fit(self):
        while self.epoch < self.epochs:
            self.run_epoch("train")
            self.run_epoch("val")
            self.scheduler.step()
            for callback in self.callbacks:
                callback.on_epoch_end(self)
            self.epoch += 1
        for callback in self.callbacks:
            callback.on_fit_end(self)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A deep ResNet on small images")
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--data", help="the folder cifar-100-python")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    scale = SCALES[args.scale]
    torch.manual_seed(args.seed)
    if args.data:
        train_set, val_set, classes = cifar(args.data, "train"), cifar(args.data, "test"), 100
    else:
        train_set, val_set = Drawings(scale["images"], args.seed), Drawings(scale["images"] // 4, args.seed + 1)
        classes = len(Drawings.names)
    best = KeepBest()
    trainer = Trainer(
        ResNet(scale["blocks"], scale["width"], classes), train_set, val_set, scale,
        args.epochs or scale["epochs"], args.device, [best, Report()],
    )  # fmt: skip
    print(f"{sum(p.numel() for p in trainer.model.parameters()):,} parameters in {3 * sum(scale['blocks']) + 2} layers")
    trainer.fit()
    trainer.run_epoch("val")
    print(f"best of epoch {best.epoch + 1}: {best.score:.4f}, put back and tested again: {trainer.history['val_accuracy'][-1]:.4f}")
