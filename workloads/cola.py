"""CoLA: a RoBERTa-style encoder fine-tuned whole to judge whether a sentence is grammatical.

    python workloads/cola.py --scale tiny                # seconds
    python workloads/cola.py --scale cpu                 # a minute or two, with one thread
    python workloads/cola.py --scale paper --data GLUE/CoLA --weights roberta.pt

Short epochs and a large state, all of which changes at every step: for whoever takes snapshots this is the worst case. Without
`--data` (a folder with GLUE's train.tsv and dev.tsv) the sentences come from a small grammar, and the
unacceptable ones break it ("the dogs near the house sleeps"), put the verb before its subject, or leave it out.
"""

import argparse
import os
import random
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence


@dataclass
class Config:
    epochs: int
    sentences: int
    layers: int
    width: int
    heads: int
    batch_size: int
    accumulate: int
    lr: float
    clip: float = 1.0


SCALES = {
    "tiny": Config(epochs=6, sentences=768, layers=1, width=32, heads=2, batch_size=16, accumulate=2, lr=1e-2),
    "cpu": Config(epochs=20, sentences=2048, layers=4, width=192, heads=6, batch_size=16, accumulate=2, lr=1e-3),
    "gpu": Config(epochs=20, sentences=8551, layers=12, width=768, heads=12, batch_size=16, accumulate=2, lr=2e-5),
    "paper": Config(epochs=80, sentences=8551, layers=24, width=1024, heads=16, batch_size=16, accumulate=2, lr=1e-5),
}
NOUNS = ["dog", "teacher", "child", "boat", "letter", "friend"]
PLACES = ["near the house", "of my friend", "by the old trees", "in the pictures", ""]
VERBS = ["sleep", "fall", "arrive", "matter", "seem odd"]


def sentence(rng):
    """Words, and 1 if they are a grammatical sentence, else 0."""
    plural, acceptable = rng.random() < 0.5, rng.random() < 0.5
    verb, *rest = rng.choice(VERBS).split()
    fault = None if acceptable else rng.choice(["agreement", "order", "no verb"])
    subject = rng.choice(NOUNS) + "s" * plural
    verb += "s" * (plural == (fault == "agreement"))
    verbs = [] if fault == "no verb" else [verb]
    place = rng.choice(PLACES).split()
    words = ["the", *verbs, subject, *place, *rest] if fault == "order" else ["the", subject, *place, *verbs, *rest]
    return words, int(acceptable)


def read_glue(path):
    """CoLA's files have four columns: source, label, the author's mark, sentence."""
    if not os.path.exists(path):
        raise SystemExit(f"cola.py: {path} is missing: --data takes the folder with GLUE's train.tsv and dev.tsv")
    with open(path) as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return [(row[3].lower().split(), int(row[1])) for row in rows]


class Roberta(nn.Module):
    def __init__(self, words, config):
        super().__init__()
        self.embed = nn.Embedding(words, config.width, padding_idx=0)
        self.position = nn.Embedding(128, config.width)
        layer = nn.TransformerEncoderLayer(config.width, config.heads, 4 * config.width, 0.1, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Linear(config.width, config.width), nn.Tanh(), nn.Linear(config.width, 1))

    def forward(self, ids):
        places = torch.arange(ids.shape[1], device=ids.device)
        hidden = self.encoder(self.embed(ids) + self.position(places), src_key_padding_mask=ids == 0)
        return self.head(hidden[:, 0]).squeeze(-1)


def batches(examples, size, device):
    for start in range(0, len(examples), size):
        ids, labels = zip(*examples[start : start + size])
        yield pad_sequence(ids, batch_first=True).to(device), torch.tensor(labels, dtype=torch.float32, device=device)


def matthews(confusion):
    """The correlation that CoLA is scored by; `confusion[truth][answer]` are counts."""
    (tn, fp), (fn, tp) = confusion
    norm = ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    return (tp * tn - fp * fn) / norm if norm else 0.0


def evaluate(model, examples, device):
    model.eval()
    confusion = [[0, 0], [0, 0]]
    with torch.no_grad():
        for ids, labels in batches(examples, 128, device):
            for truth, answer in zip(labels.int().tolist(), (model(ids) > 0).int().tolist()):
                confusion[truth][answer] += 1
    return matthews(confusion)


def train_epoch(model, optimizer, scheduler, examples, config, device):
    model.train()
    running = 0.0
    optimizer.zero_grad()
    for index, (ids, labels) in enumerate(batches(examples, config.batch_size, device), start=1):
        loss = nn.functional.binary_cross_entropy_with_logits(model(ids), labels)
        (loss / config.accumulate).backward()
        running += loss.item()
        if index % config.accumulate:
            continue
        norm = clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return running / index, norm.item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Linguistic acceptability, the whole encoder trained")
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--data", help="GLUE's CoLA folder")
    parser.add_argument("--weights", help="a state dict to start from")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    config = SCALES[args.scale]
    config.epochs = args.epochs or config.epochs

    random.seed(args.seed)
    torch.manual_seed(args.seed)
    if args.data:
        train, dev = read_glue(os.path.join(args.data, "train.tsv")), read_glue(os.path.join(args.data, "dev.tsv"))
    else:
        train = [sentence(random) for _ in range(config.sentences)]
        dev = [sentence(random) for _ in range(config.sentences // 4)]
    vocabulary = {word: n for n, word in enumerate(sorted({w for words, _ in train for w in words}), start=3)}
    # 1 begins a sentence, 2 stands for a word that training did not show
    train, dev = (
        [(torch.tensor([1] + [vocabulary.get(w, 2) for w in words][:127]), label) for words, label in part]
        for part in (train, dev)
    )

    model = Roberta(len(vocabulary) + 3, config).to(args.device)
    if args.weights:
        model.load_state_dict(torch.load(args.weights), strict=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.98), weight_decay=0.01)
    updates = config.epochs * (len(train) // (config.batch_size * config.accumulate))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=updates + 1, anneal_strategy="linear")
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(train)} sentences")

    history = []
    for epoch in range(config.epochs):
        random.shuffle(train)
        loss, norm = train_epoch(model, optimizer, scheduler, train, config, args.device)
        history.append(evaluate(model, dev, args.device))
        print(f"epoch {epoch + 1:2d}  loss {loss:.4f}  gradient {norm:.3f}  matthews {history[-1]:.4f}")
    print(f"best matthews {max(history):.4f} in epoch {history.index(max(history)) + 1}")
