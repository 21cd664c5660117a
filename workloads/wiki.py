"""Wiki: a RoBERTa-style masked language model trained from scratch, counted in steps, not in epochs.

    python workloads/wiki.py --scale tiny                # seconds
    python workloads/wiki.py --scale cpu                 # a minute or two, with one thread
    python workloads/wiki.py --scale paper --data wikitext-103-raw

One loop over steps that draws from a stream without end, evaluates now and then, and runs in mixed precision. Without `--data`
(WikiText's folder with wiki.train.raw and wiki.valid.raw) the text is what everybody has at hand: documentation of Python's
standard library.
"""

import argparse
import importlib
import inspect
import math
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

parser = argparse.ArgumentParser(description="A masked language model from scratch")
parser.add_argument("--scale", choices=["tiny", "cpu", "gpu", "paper"], default="cpu")
parser.add_argument("--data", help="WikiText's folder")
parser.add_argument("--max-steps", type=int)
parser.add_argument("--seed", type=int, default=1337)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--no-amp", action="store_true", help="compute in float32 throughout")
args = parser.parse_args()

# steps between evaluations, batches per evaluation
max_steps, eval_interval, eval_batches = {"tiny": (60, 15, 2), "cpu": (800, 40, 8)}.get(args.scale, (100_000, 1000, 50))
max_steps = args.max_steps or max_steps
n_layer, n_head, width = {"tiny": (1, 2, 32), "cpu": (4, 4, 128), "gpu": (12, 12, 768), "paper": (12, 12, 768)}[args.scale]
block, batch_size = {"tiny": (48, 16), "cpu": (64, 32), "gpu": (512, 16), "paper": (512, 16)}[args.scale]
peak_lr, warmup, grad_clip = {"tiny": 1e-2, "cpu": 2e-3}.get(args.scale, 6e-4), max_steps // 10, 1.0
MASKED_SHARE, VOCABULARY, MASK = 0.15, 257, 256  # bytes, and the mask
torch.manual_seed(args.seed)


def text():
    """What is learned from, and what is held out."""
    if args.data:
        paths = [os.path.join(args.data, f"wiki.{part}.raw") for part in ("train", "valid")]
        for path in paths:
            if not os.path.exists(path):
                raise SystemExit(f"wiki.py: {path} is missing: --data takes WikiText's folder with wiki.train.raw and wiki.valid.raw")
        return [open(path, "rb").read() for path in paths]
    pages = []
    for module in map(importlib.import_module, ("argparse", "collections", "decimal", "logging", "pathlib", "random", "statistics")):
        members = [module, *(m for _, m in sorted(vars(module).items()) if inspect.isfunction(m) or inspect.isclass(m))]
        pages += [inspect.getdoc(member) or "" for member in members]
    whole = "\n\n".join(pages).encode()
    return whole[: len(whole) * 9 // 10], whole[len(whole) * 9 // 10 :]


def stream(data, generator):
    """Batches `(batch_size, block)` of bytes from random places, for ever."""
    data = torch.frombuffer(bytearray(data), dtype=torch.uint8).long()
    while True:
        starts = torch.randint(len(data) - block, (batch_size,), generator=generator)
        yield torch.stack([data[start : start + block] for start in starts.tolist()])


def mask(tokens):
    """Hide a share of the bytes; labels are -100 elsewhere. Of the hidden, 10 % are replaced and 10 % kept (Devlin et al., 2019)."""
    hidden = torch.rand(tokens.shape) < MASKED_SHARE
    labels = torch.where(hidden, tokens, -100)
    dice = torch.rand(tokens.shape)
    tokens = torch.where(hidden & (dice < 0.8), MASK, tokens)
    return torch.where(hidden & (dice > 0.9), torch.randint(256, tokens.shape), tokens), labels


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1))

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(b, t, 3, n_head, width // n_head).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, width))
        return x + self.mlp(self.ln2(x))


class MaskedLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(block, width)
        self.blocks = nn.Sequential(*(Block() for _ in range(n_layer)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY)
        self.head.weight = self.tokens.weight
        nn.init.normal_(self.tokens.weight, std=0.05)

    def forward(self, ids, labels):
        logits = self.head(self.norm(self.blocks(self.tokens(ids) + self.places.weight[: ids.shape[1]])))
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())


def lr_at(step):
    """Linear warm-up, then a cosine down to a tenth."""
    if step < warmup:
        return peak_lr * (step + 1) / warmup
    return peak_lr * (0.55 + 0.45 * math.cos(math.pi * (step - warmup) / max(max_steps - warmup, 1)))


@torch.no_grad()
def estimate_loss():
    model.eval()
    # the same places and masks each time, so that the estimates compare
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        losses = torch.zeros(eval_batches)
        for k, batch in zip(range(eval_batches), stream(valid_bytes, torch.Generator().manual_seed(0))):
            ids, labels = mask(batch)
            losses[k] = model(ids.to(args.device), labels.to(args.device)).item()
    model.train()
    return losses.mean().item()


train_bytes, valid_bytes = text()
model = MaskedLM().to(args.device)
decayed = [p for p in model.parameters() if p.dim() > 1]
others = [p for p in model.parameters() if p.dim() <= 1]
optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=peak_lr)
scaler = torch.amp.GradScaler(args.device, enabled=args.device == "cuda" and not args.no_amp)
print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(train_bytes):,} bytes of text")

batches = stream(train_bytes, torch.Generator().manual_seed(args.seed))
step, best = 0, math.inf
while step < max_steps:
    if step % eval_interval == 0:
        valid_loss = estimate_loss()
        best = min(best, valid_loss)
        print(f"step {step}: valid loss {valid_loss:.4f}, lr {lr_at(step):.2e}")
    for group in optimizer.param_groups:
        group["lr"] = lr_at(step)
    ids, labels = mask(next(batches))
    with torch.autocast(args.device, dtype=torch.bfloat16, enabled=not args.no_amp):
        loss = model(ids.to(args.device), labels.to(args.device))
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    step += 1
print(f"final valid loss {estimate_loss():.4f}, best before {best:.4f}")
