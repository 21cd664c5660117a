"""ImgN: SqueezeNet at ImageNet's shape, eight epochs, in the manner of PyTorch's ImageNet example.

    python workloads/imgn.py --scale tiny                # seconds
    python workloads/imgn.py --scale cpu                 # a minute or two, with one thread
    python workloads/imgn.py --scale paper --data imagenet

Loader workers, AverageMeter and ProgressMeter, top-1 and top-5, a checkpoint at every epoch and `--resume`. Without `--data` (a
folder with train/CLASS/*.jpg and val/CLASS/*.jpg, for which torchvision is needed) the workers draw the images: the class is the
number of stripes and their direction.
"""

import argparse
import os
import random
import shutil
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

SCALES = {
    "tiny": dict(epochs=4, images=320, classes=6, size=64, width=8, batch_size=16, lr=0.02, workers=1),
    "cpu": dict(epochs=8, images=17200, classes=12, size=64, width=16, batch_size=32, lr=0.03, workers=1),
    "gpu": dict(epochs=8, images=100000, classes=200, size=224, width=64, batch_size=256, lr=0.04, workers=8),
    "paper": dict(epochs=8, images=1281167, classes=1000, size=224, width=64, batch_size=256, lr=0.04, workers=8),
}


class Stripes(Dataset):
    """Drawn anew at every access: phase, colours and noise come from the worker's random numbers."""

    def __init__(self, count, classes, size):
        self.count, self.classes, self.size = count, classes, size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        label = index % self.classes
        stripes, direction = 2 + label // 2 % 50, label % 2
        line = torch.arange(self.size) * (stripes * 2 * torch.pi / self.size) + random.uniform(0, 6.28)
        wave = line.sin().expand(self.size, self.size)
        image = (wave.t() if direction else wave) * torch.rand(3, 1, 1)
        return image + 0.3 * torch.randn(3, self.size, self.size), label


def image_folders(folder, size):
    try:
        from torchvision import datasets, transforms
    except ImportError:
        raise SystemExit("imgn.py: --data needs torchvision: pip install torchvision") from None
    for part in ("train", "val"):
        if not os.path.isdir(os.path.join(folder, part)):
            raise SystemExit(f"imgn.py: {os.path.join(folder, part)} is missing: --data takes a folder with train/ and val/")
    finish = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    crop = transforms.Compose([transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), *finish])
    centre = transforms.Compose([transforms.Resize(size * 8 // 7), transforms.CenterCrop(size), *finish])
    return datasets.ImageFolder(f"{folder}/train", crop), datasets.ImageFolder(f"{folder}/val", centre)


class Fire(nn.Module):
    def __init__(self, channels, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1, self.expand3 = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)
        self.norm = nn.BatchNorm2d(2 * expand)

    def forward(self, x):
        x = F.relu(self.squeeze(x), inplace=True)
        return F.relu(self.norm(torch.cat([self.expand1(x), self.expand3(x)], 1)), inplace=True)


def squeezenet(width, classes):
    """SqueezeNet 1.1 (Iandola et al., 2016) with batch norm in its fire modules; `width` 64 is the published one."""
    w = width
    return nn.Sequential(
        nn.Conv2d(3, w, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(w, w // 4, w), Fire(2 * w, w // 4, w), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(2 * w, w // 2, 2 * w), Fire(4 * w, w // 2, 2 * w), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(4 * w, 3 * w // 4, 3 * w), Fire(6 * w, w, 4 * w),
        nn.Dropout(0.3), nn.Conv2d(8 * w, classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


class AverageMeter:
    """Computes and stores the average and current value"""

    def __init__(self, name, fmt=":f"):
        self.name = name
        self.fmt = fmt
        self.reset()

    def reset(self):
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count

    def __str__(self):
        return ("{name} {val" + self.fmt + "} ({avg" + self.fmt + "})").format(**self.__dict__)


class ProgressMeter:
    def __init__(self, num_batches, meters, prefix=""):
        digits = len(str(num_batches))
        self.batch_fmt = "[{:" + str(digits) + "d}/" + str(num_batches) + "]"
        self.meters = meters
        self.prefix = prefix

    def display(self, batch):
        print("\t".join([self.prefix + self.batch_fmt.format(batch), *map(str, self.meters)]))


def accuracy(output, target, topk=(1,)):
    """The share of examples, in per cent, whose class is among the k likeliest."""
    _, pred = output.topk(max(topk), 1)
    correct = pred.eq(target[:, None])
    return [correct[:, :k].any(1).float().mean().item() * 100.0 for k in topk]


def train(loader, model, criterion, optimizer, epoch, args):
    batch_time, losses = AverageMeter("Time", ":6.3f"), AverageMeter("Loss", ":.4e")
    top1, top5 = AverageMeter("Acc@1", ":6.2f"), AverageMeter("Acc@5", ":6.2f")
    progress = ProgressMeter(len(loader), [batch_time, losses, top1, top5], prefix=f"Epoch: [{epoch}]")
    model.train()
    end = time.time()
    for i, (images, target) in enumerate(loader):
        images, target = images.to(args.device, non_blocking=True), target.to(args.device, non_blocking=True)
        output = model(images)
        loss = criterion(output, target)
        acc1, acc5 = accuracy(output, target, topk=(1, 5))
        losses.update(loss.item(), images.size(0))
        top1.update(acc1, images.size(0))
        top5.update(acc5, images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batch_time.update(time.time() - end)
        end = time.time()
        if i % args.print_freq == 0:
            progress.display(i)


def validate(loader, model, criterion, args):
    losses, top1 = AverageMeter("Loss", ":.4e"), AverageMeter("Acc@1", ":6.2f")
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images.to(args.device))
            losses.update(criterion(output, target.to(args.device)).item(), images.size(0))
            top1.update(accuracy(output, target.to(args.device))[0], images.size(0))
    print(f" * Acc@1 {top1.avg:.3f} Loss {losses.avg:.4f}")
    return top1.avg


def adjust_learning_rate(optimizer, epoch, lr):
    """Polynomial decay, as SqueezeNet's authors had it, per epoch."""
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr * (1 - epoch / (args.epochs + 1))


def save_checkpoint(state, is_best, filename="checkpoint.pth.tar"):
    torch.save(state, filename)
    if is_best:
        shutil.copyfile(filename, "model_best.pth.tar")


def main():
    scale = SCALES[args.scale]
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    if args.data:
        train_set, val_set = image_folders(args.data, scale["size"])
    else:
        train_set, val_set = (Stripes(count, scale["classes"], scale["size"]) for count in (scale["images"], scale["images"] // 4))
    load = {"batch_size": scale["batch_size"], "num_workers": scale["workers"], "pin_memory": args.device == "cuda"}
    train_loader, val_loader = DataLoader(train_set, shuffle=True, **load), DataLoader(val_set, **load)

    model = squeezenet(scale["width"], scale["classes"]).to(args.device)
    criterion = nn.CrossEntropyLoss().to(args.device)
    optimizer = torch.optim.SGD(model.parameters(), scale["lr"], momentum=0.9, weight_decay=2e-4)
    start_epoch, best_acc1 = 0, 0.0
    if args.resume:
        checkpoint = torch.load(args.resume)
        start_epoch, best_acc1 = checkpoint["epoch"], checkpoint["best_acc1"]
        model.load_state_dict(checkpoint["state_dict"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        print(f"=> loaded checkpoint '{args.resume}' (epoch {start_epoch})")

    for epoch in range(start_epoch, args.epochs):
        adjust_learning_rate(optimizer, epoch, scale["lr"])
        train(train_loader, model, criterion, optimizer, epoch, args)
        acc1 = validate(val_loader, model, criterion, args)
        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        state = {"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1, "optimizer": optimizer.state_dict()}
        save_checkpoint(state, is_best)
    print(f"best Acc@1 {best_acc1:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="SqueezeNet at ImageNet's shape")
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--data", help="a folder with train/ and val/")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--resume", default="", help="path to a checkpoint")
    parser.add_argument("-p", "--print-freq", type=int, default=10)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    args.epochs = args.epochs or SCALES[args.scale]["epochs"]
    main()
