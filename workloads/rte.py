"""RTE: a RoBERTa-style encoder fine-tuned to tell whether one sentence follows from another, most of it frozen.

    python workloads/rte.py --scale tiny                 # seconds
    python workloads/rte.py --scale cpu                  # a minute or two, with one thread
    python workloads/rte.py --scale paper --data GLUE/RTE --weights roberta.pt

Without `--data` (a folder with GLUE's train.tsv and dev.tsv) the pairs come from a small grammar: "a red cat chased the old dog"
entails "an animal chased the dog" but not "the dog chased a cat". Without `--weights` the frozen layers are random features,
which is enough for that grammar.
"""

import argparse
import csv
import math
import os
import random

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

SCALES = {
    "tiny": dict(epochs=4, train=512, dev=128, layers=2, unfrozen=1, width=32, heads=2, batch_size=32, lr=5e-3),
    "cpu": dict(epochs=12, train=4096, dev=512, layers=8, unfrozen=2, width=128, heads=4, batch_size=32, lr=1e-3),
    "gpu": dict(epochs=10, train=2490, dev=277, layers=12, unfrozen=2, width=768, heads=12, batch_size=16, lr=1e-4),
    "paper": dict(epochs=200, train=2490, dev=277, layers=24, unfrozen=4, width=1024, heads=16, batch_size=16, lr=2e-5),
}
PAD, CLS, SEP = 0, 1, 2
KINDS = {"cat": "animal", "dog": "animal", "horse": "animal", "rose": "plant", "oak": "plant", "fern": "plant"}
ADJECTIVES = ["red", "old", "small", "quiet"]
VERBS = ["chased", "saw", "passed", "found"]


def make_pair(rng):
    """A premise, a hypothesis, and whether the first entails the second."""
    subject, other = rng.sample(sorted(KINDS), 2)
    verb = rng.choice(VERBS)
    premise = ["the", rng.choice(ADJECTIVES), subject, verb, "the", rng.choice(ADJECTIVES), other]
    if rng.random() < 0.5:  # adjectives dropped, nouns perhaps generalised: it follows
        follows = [rng.choice([subject, KINDS[subject]]), verb, rng.choice([other, KINDS[other]])]
        return premise, ["the", follows[0], verb, "the", follows[2]], 1
    wrong = rng.choice([v for v in VERBS if v != verb])
    return premise, ["the", subject, wrong, "the", other], 0


def generated(count, seed):
    rng = random.Random(seed)
    return [make_pair(rng) for _ in range(count)]


def from_glue(path):
    if not os.path.exists(path):
        raise SystemExit(f"rte.py: {path} is missing: --data takes the folder with GLUE's train.tsv and dev.tsv")
    with open(path, newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(r["sentence1"].lower().split(), r["sentence2"].lower().split(), int(r["label"] == "entailment")) for r in rows]


def tensors(pairs, vocabulary, length):
    """Token ids `[CLS] premise [SEP] hypothesis`, cut or padded to `length`, and labels."""
    ids = torch.full((len(pairs), length), PAD)
    for row, (premise, hypothesis, _) in enumerate(pairs):
        words = [CLS, *(vocabulary.get(w, SEP) for w in premise), SEP, *(vocabulary.get(w, SEP) for w in hypothesis)]
        ids[row, : len(words)] = torch.tensor(words[:length])
    return TensorDataset(ids, torch.tensor([label for *_, label in pairs]))


class Encoder(nn.Module):
    def __init__(self, words, length, width, heads, layers):
        super().__init__()
        self.tokens = nn.Embedding(words, width, padding_idx=PAD)
        self.places = nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, 0.1, "gelu", batch_first=True) for _ in range(layers)
        )
        self.classifier = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(width, 2))

    def forward(self, ids):
        padding = ids == PAD
        hidden = self.norm(self.tokens(ids) + self.places.weight[: ids.shape[1]])
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=padding)
        return self.classifier(hidden.masked_fill(padding[..., None], 0).sum(1) / (~padding).sum(1, keepdim=True))


def freeze_all_but(model, unfrozen):
    """Leave only the last layers and the classifier to be trained."""
    for part in (model.places, model.norm, *model.layers[: len(model.layers) - unfrozen]):
        part.requires_grad_(False)


def warm_up(total):
    """Linear warm-up over the first tenth, then linear decay, as in RoBERTa's fine-tuning."""
    return lambda step: min((step + 1) / max(0.1 * total, 1), max(0.0, (total - step) / (0.9 * total)))


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    right = sum((model(ids.to(device)).argmax(-1) == labels.to(device)).sum().item() for ids, labels in loader)
    return right / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description="Textual entailment with a mostly frozen encoder")
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--data", help="GLUE's RTE folder")
    parser.add_argument("--weights", help="a state dict of the encoder")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    scale = SCALES[args.scale]
    epochs = args.epochs or scale["epochs"]
    torch.manual_seed(args.seed)

    if args.data:
        train_pairs, dev_pairs = (from_glue(os.path.join(args.data, f"{part}.tsv")) for part in ("train", "dev"))
        length = 256
    else:
        train_pairs, dev_pairs = generated(scale["train"], args.seed), generated(scale["dev"], args.seed + 1)
        length = 16
    words = sorted({word for premise, hypothesis, _ in train_pairs for word in premise + hypothesis})
    vocabulary = {word: number for number, word in enumerate(words, start=SEP + 1)}
    train_loader = DataLoader(tensors(train_pairs, vocabulary, length), scale["batch_size"], shuffle=True)
    dev_loader = DataLoader(tensors(dev_pairs, vocabulary, length), 128)

    model = Encoder(len(vocabulary) + SEP + 1, length, scale["width"], scale["heads"], scale["layers"]).to(args.device)
    if args.weights:
        model.load_state_dict(torch.load(args.weights), strict=False)
    freeze_all_but(model, scale["unfrozen"])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=scale["lr"], weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_up(epochs * len(train_loader)))
    criterion = nn.CrossEntropyLoss()
    print(f"{sum(p.numel() for p in trained):,} of {sum(p.numel() for p in model.parameters()):,} parameters are trained")

    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for step, (ids, labels) in enumerate(train_loader):
            loss = criterion(model(ids.to(args.device)), labels.to(args.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        accuracy = evaluate(model, dev_loader, args.device)
        rate = scheduler.get_last_lr()[0]
        if math.isnan(total):
            raise SystemExit("rte.py: the loss is not a number any more")
        print(f"epoch {epoch}: loss {total / len(train_loader):.4f}, lr {rate:.2e}, dev accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
