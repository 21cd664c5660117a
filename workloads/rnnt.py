"""RnnT: translation with a recurrent encoder and decoder and attention between them, in the manner of GNMT.

    python workloads/rnnt.py --scale tiny                # seconds
    python workloads/rnnt.py --scale cpu                 # a minute or two, with one thread
    python workloads/rnnt.py --scale paper --data corpus # corpus/train.src, train.tgt, valid.src, valid.tgt

A `while` loop that ends by itself: when BLEU on held-out sentences has not risen for some epochs. Without `--data` (parallel text,
a sentence a line) the languages are English number words and the digits they stand for: "four hundred seven" is "4 0 7".
"""

import argparse
import collections
import math
import os
import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

SCALES = {
    "tiny": dict(pairs=640, largest=99, width=48, layers=1, batch_size=32, lr=1e-2, patience=2, most=4),
    "cpu": dict(pairs=14000, largest=999_999_999, width=96, layers=2, batch_size=64, lr=1.5e-3, patience=3, most=14),
    "gpu": dict(pairs=200_000, largest=10**12, width=1024, layers=4, batch_size=128, lr=1e-3, patience=3, most=30),
    "paper": dict(pairs=4_500_000, largest=10**12, width=1024, layers=8, batch_size=128, lr=1e-3, patience=3, most=8),
}
PAD, BOS, EOS, UNK = range(4)
UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
POWERS = [(10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred")]


def in_words(number):
    for power, name in POWERS:
        if number >= power:
            rest = number % power
            return in_words(number // power) + [name] + (in_words(rest) if rest else [])
    if number < 20:
        return [UNITS[number]]
    return [TENS[number // 10 - 2]] + ([UNITS[number % 10]] if number % 10 else [])


def number_pairs(count, largest, rng):
    numbers = [rng.randint(0, largest) for _ in range(count)]
    return [(in_words(number), list(str(number))) for number in numbers]


def parallel_text(folder, part):
    sides = []
    for side in ("src", "tgt"):
        path = os.path.join(folder, f"{part}.{side}")
        if not os.path.exists(path):
            raise SystemExit(f"rnnt.py: {path} is missing: --data takes a folder with train and valid as .src and .tgt")
        with open(path) as file:
            sides.append([line.split() for line in file])
    return list(zip(*sides))


class Vocabulary:
    def __init__(self, sentences):
        words = collections.Counter(word for sentence in sentences for word in sentence)
        self.words = ["<pad>", "<s>", "</s>", "<unk>", *(word for word, _ in words.most_common(32_000))]
        self.numbers = {word: number for number, word in enumerate(self.words)}

    def __len__(self):
        return len(self.words)

    def encode(self, sentence):
        return torch.tensor([self.numbers.get(word, UNK) for word in sentence] + [EOS])


class Encoder(nn.Module):
    def __init__(self, words, width, layers):
        super().__init__()
        self.embed = nn.Embedding(words, width, padding_idx=PAD)
        self.rnn = nn.LSTM(width, width // 2, layers, batch_first=True, bidirectional=True)

    def forward(self, ids):
        lengths = (ids != PAD).sum(1).cpu()
        packed = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


class Decoder(nn.Module):
    """Each step sees the last word and what attention gathered for it from the source (Bahdanau et al., 2015)."""

    def __init__(self, words, width, layers):
        super().__init__()
        self.embed = nn.Embedding(words, width, padding_idx=PAD)
        self.first = nn.LSTMCell(2 * width, width)
        self.others = nn.ModuleList(nn.LSTMCell(2 * width, width) for _ in range(layers - 1))
        self.query, self.key, self.score = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1, bias=False)
        self.out = nn.Linear(2 * width, words)

    def start(self, memory):
        zeros = memory.new_zeros(memory.shape[0], memory.shape[2])
        return [(zeros, zeros) for _ in range(1 + len(self.others))], zeros

    def forward(self, word, state, memory, padding):
        cells, context = state
        h, c = self.first(torch.cat([self.embed(word), context], -1), cells[0])
        scores = self.score(torch.tanh(self.key(memory) + self.query(h)[:, None])).squeeze(-1)
        weights = scores.masked_fill(padding, -math.inf).softmax(-1)
        context = (weights[:, :, None] * memory).sum(1)
        new = [(h, c)]
        for cell, old in zip(self.others, cells[1:]):
            below = h
            h, c = cell(torch.cat([h, context], -1), old)
            new.append((h, c))
            h = h + below  # residuals between the upper layers, as GNMT has them
        return self.out(torch.cat([h, context], -1)), (new, context)


def translate(encoder, decoder, source, length):
    """Greedy decoding; the words' numbers of each sentence."""
    memory, padding = encoder(source), source == PAD
    word = torch.full((len(source),), BOS, device=source.device)
    state, answers = decoder.start(memory), []
    for _ in range(length):
        logits, state = decoder(word, state, memory, padding)
        word = logits.argmax(-1)
        answers.append(word)
    return [row[: row.index(EOS)] if EOS in row else row for row in torch.stack(answers, 1).tolist()]


def bleu(references, answers):
    """Corpus BLEU with one reference and n-grams up to four (Papineni et al., 2002); n-grams nobody can have are left out."""
    logs = []
    for n in range(1, 5):
        hits = total = 0
        for reference, answer in zip(references, answers):
            known = collections.Counter(tuple(reference[i : i + n]) for i in range(len(reference) - n + 1))
            given = collections.Counter(tuple(answer[i : i + n]) for i in range(len(answer) - n + 1))
            hits += (known & given).total()
            total += given.total()
        if total:
            logs.append(math.log(max(hits, 1e-9) / total))
    expected, length = sum(map(len, references)), sum(map(len, answers))
    brevity = min(0.0, 1 - expected / max(length, 1))
    return 100 * math.exp(brevity + sum(logs) / max(len(logs), 1))


def main():
    parser = argparse.ArgumentParser(description="Translation with attention")
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--data", help="a folder of parallel text")
    parser.add_argument("--epochs", type=int, help="stop after so many epochs at the latest")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    scale = SCALES[args.scale]
    rng = random.Random(args.seed)
    torch.manual_seed(args.seed)

    if args.data:
        train, valid = parallel_text(args.data, "train"), parallel_text(args.data, "valid")
    else:
        train, valid = (number_pairs(count, scale["largest"], rng) for count in (scale["pairs"], scale["pairs"] // 8))
    source_words, target_words = Vocabulary(s for s, _ in train), Vocabulary(t for _, t in train)

    def tensors(pairs):
        sources = pad_sequence([source_words.encode(s) for s, _ in pairs], batch_first=True).to(args.device)
        return sources, pad_sequence([target_words.encode(t) for _, t in pairs], batch_first=True).to(args.device)

    encoder = Encoder(len(source_words), scale["width"], scale["layers"]).to(args.device)
    decoder = Decoder(len(target_words), scale["width"], scale["layers"]).to(args.device)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=scale["lr"])
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=1)
    criterion = nn.CrossEntropyLoss(ignore_index=PAD)

    epoch, best, waited = 0, -1.0, 0
    while waited < scale["patience"] and epoch < (args.epochs or scale["most"]):
        epoch += 1
        encoder.train(), decoder.train()
        rng.shuffle(train)
        losses = []
        for start in range(0, len(train), scale["batch_size"]):
            source, target = tensors(train[start : start + scale["batch_size"]])
            memory, padding = encoder(source), source == PAD
            state, loss = decoder.start(memory), 0.0
            word = torch.full((len(source),), BOS, device=args.device)
            for position in range(target.shape[1]):
                logits, state = decoder(word, state, memory, padding)
                loss = loss + criterion(logits, target[:, position]) if (target[:, position] != PAD).any() else loss
                word = target[:, position]  # teacher forcing
            loss = loss / target.shape[1]
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses.append(loss.item())

        encoder.eval(), decoder.eval()
        answers = []
        with torch.no_grad():
            for start in range(0, len(valid), 256):
                source, target = tensors(valid[start : start + 256])
                answers += translate(encoder, decoder, source, target.shape[1] + 2)
        texts = [[target_words.words[number] for number in answer] for answer in answers]
        score = bleu([target for _, target in valid], texts)
        scheduler.step(score)
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.4f}, BLEU {score:.2f}, {' '.join(valid[0][0])} -> {''.join(texts[0])}")
    print(f"stopped after {epoch} epochs, best BLEU {best:.2f}")


if __name__ == "__main__":
    main()
