"""Jasp: a Jasper-like one-dimensional convolutional net that reads speech-like features, trained with CTC.

    python workloads/jasp.py --scale tiny                # seconds
    python workloads/jasp.py --scale cpu                 # a minute or two, with one thread
    python workloads/jasp.py --scale paper --data librispeech.tsv

Few long epochs, each followed by greedy decoding and the word error rate. Without `--data` (a table with a saved feature tensor
`(bands, frames)` and its transcript in each line) an utterance is synthetic: every letter is a chord of two bands that lasts
three to six frames, words are parted by silence, and all of it lies under noise.
"""

import argparse
import os
import random
import time

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence

SCALES = {
    "tiny": dict(epochs=3, utterances=288, blocks=1, repeat=2, width=48, batch_size=16, lr=1e-2),
    "cpu": dict(epochs=5, utterances=8000, blocks=2, repeat=3, width=128, batch_size=16, lr=4e-3),
    "gpu": dict(epochs=10, utterances=20000, blocks=10, repeat=5, width=256, batch_size=32, lr=1e-2),
    "paper": dict(epochs=4, utterances=280000, blocks=10, repeat=5, width=256, batch_size=32, lr=1e-2),
}
BANDS = 24
LETTERS = " abcdefghijklmnopqrstuvwxyz'"  # the index in here plus one is the label; 0 is CTC's blank
WORDS = "one two three four five six seven eight nine ten red blue green up down left right".split()


class Utterances(torch.utils.data.Dataset):
    def __init__(self, count, seed):
        self.count, self.seed = count, seed
        rng = random.Random(0)
        bands = [(a, b) for a in range(BANDS) for b in range(a + 3, BANDS)]
        self.chords = dict(zip(LETTERS, rng.sample(bands, len(LETTERS))))

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        rng = random.Random(self.seed * 1_000_003 + index)
        words = rng.choices(WORDS, k=rng.randint(2, 4))
        columns = []
        for letter in " ".join(words):
            column = torch.zeros(BANDS)
            if letter != " ":
                column[list(self.chords[letter])] = rng.uniform(1.5, 3.0)
            columns += [column] * rng.randint(3, 6) + [torch.zeros(BANDS)]
        clean = torch.stack(columns, 1)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + index))
        return clean + 0.3 * noise, " ".join(words)


class Manifest(torch.utils.data.Dataset):
    def __init__(self, path):
        if not os.path.exists(path):
            raise SystemExit(f"jasp.py: {path} is missing: --data takes a table of feature files and transcripts, parted by tabs")
        with open(path) as file:
            self.rows = [line.rstrip("\n").split("\t") for line in file]
        self.folder = os.path.dirname(path)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        path, words = self.rows[index]
        return torch.load(os.path.join(self.folder, path)), words.lower()


def collate(batch):
    features, words = zip(*batch)
    lengths = torch.tensor([feature.shape[1] for feature in features])
    padded = pad_sequence([feature.t() for feature in features], batch_first=True).transpose(1, 2)
    labels = [torch.tensor([LETTERS.index(c) + 1 for c in text if c in LETTERS]) for text in words]
    return padded, lengths, torch.cat(labels), torch.tensor([len(label) for label in labels]), words


class JasperBlock(nn.Module):
    """`repeat` times convolution, batch norm, ReLU, dropout, and a residual around all of them (Li et al., 2019)."""

    def __init__(self, channels, width, kernel, repeat):
        super().__init__()
        self.convs = nn.ModuleList()
        for index in range(repeat):
            conv = nn.Conv1d(channels if index == 0 else width, width, kernel, padding=kernel // 2, bias=False)
            self.convs.append(nn.Sequential(conv, nn.BatchNorm1d(width)))
        self.residual = nn.Sequential(nn.Conv1d(channels, width, 1, bias=False), nn.BatchNorm1d(width))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        residual = self.residual(x)
        for index, conv in enumerate(self.convs):
            x = conv(x)
            if index == len(self.convs) - 1:
                x = x + residual
            x = self.dropout(torch.relu(x))
        return x


class Jasper(nn.Module):
    def __init__(self, blocks, repeat, width):
        super().__init__()
        self.prologue = nn.Sequential(nn.Conv1d(BANDS, width, 5, stride=2, padding=2), nn.BatchNorm1d(width), nn.ReLU())
        self.blocks = nn.Sequential(*(JasperBlock(width, width, 5 + 2 * n, repeat) for n in range(blocks)))
        self.epilogue = nn.Conv1d(width, len(LETTERS) + 1, 1)

    def forward(self, features, lengths):
        logits = self.epilogue(self.blocks(self.prologue(features)))
        return logits.permute(2, 0, 1).log_softmax(-1), (lengths + 1) // 2


def greedy(log_probs, lengths):
    """The best label of each frame; repetitions and blanks fall out."""
    texts = []
    for labels, length in zip(log_probs.argmax(-1).t().tolist(), lengths.tolist()):
        kept = [b for a, b in zip([0] + labels[: length - 1], labels[:length]) if b and a != b]
        texts.append("".join(LETTERS[label - 1] for label in kept))
    return texts


def edits(reference, answer):
    """Levenshtein's distance between two lists."""
    row = list(range(len(answer) + 1))
    for i, expected in enumerate(reference, 1):
        previous, row[0] = row[0], i
        for j, given in enumerate(answer, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (expected != given))
    return row[-1]


def validate(model, loader, ctc, device):
    model.eval()
    wrong = total = 0
    losses = []
    with torch.no_grad():
        for features, lengths, labels, label_lengths, texts in loader:
            log_probs, frames = model(features.to(device), lengths)
            losses.append(ctc(log_probs, labels, frames, label_lengths).item())
            answers = greedy(log_probs.cpu(), frames)
            wrong += sum(edits(text.split(), answer.split()) for text, answer in zip(texts, answers))
            total += sum(len(text.split()) for text in texts)
    return sum(losses) / len(losses), wrong / total, (texts[0], answers[0])


def main():
    parser = argparse.ArgumentParser(description="Speech recognition with convolutions and CTC")
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--data", help="a table of features and transcripts")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    scale = SCALES[args.scale]
    epochs = args.epochs or scale["epochs"]
    torch.manual_seed(args.seed)

    if args.data:
        everything = Manifest(args.data)
        train_set, valid_set = torch.utils.data.random_split(everything, [0.95, 0.05])
    else:
        train_set, valid_set = Utterances(scale["utterances"], args.seed), Utterances(scale["utterances"] // 8, args.seed + 1)
    load = {"batch_size": scale["batch_size"], "collate_fn": collate}
    train_loader = torch.utils.data.DataLoader(train_set, shuffle=True, **load)
    valid_loader = torch.utils.data.DataLoader(valid_set, **load)

    model = Jasper(scale["blocks"], scale["repeat"], scale["width"]).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=scale["lr"], weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)
    ctc = nn.CTCLoss(zero_infinity=True)

    for epoch in range(epochs):
        began = time.time()
        model.train()
        for batch, (features, lengths, labels, label_lengths, _) in enumerate(train_loader):
            log_probs, frames = model(features.to(args.device), lengths)
            loss = ctc(log_probs, labels, frames, label_lengths)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            if batch % 40 == 0:
                print(f"epoch {epoch} batch {batch}/{len(train_loader)} ctc {loss.item():.4f}")
        scheduler.step()
        valid_loss, wer, (said, heard) = validate(model, valid_loader, ctc, args.device)
        print(f"epoch {epoch}: valid ctc {valid_loss:.4f}, word error rate {wer:.4f} ({time.time() - began:.1f} s)")
        print(f"  said  {said!r}\n  heard {heard!r}")


if __name__ == "__main__":
    main()
