"""Train a small GPT on characters: the text is the source of a few modules of Python's own standard library.

    python workloads/char_lm.py                                # 600 steps, well under a minute on one CPU
    python workloads/char_lm.py --max-iters 60 --eval-interval 20 --n-embd 32

One loop of steps without epochs, in the manner of nanoGPT: every `--eval-interval` steps the loss on both splits is
estimated and a checkpoint is written if the validation loss went down.
"""

import argparse
import math
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

MODULES = ["argparse", "ast", "dataclasses", "difflib", "functools", "heapq", "inspect", "random", "statistics", "textwrap"]


class Block(nn.Module):
    def __init__(self, n_embd, n_head, dropout):
        super().__init__()
        self.n_head = n_head
        self.dropout = dropout
        self.ln_1 = nn.LayerNorm(n_embd)
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.proj = nn.Linear(n_embd, n_embd)
        self.ln_2 = nn.LayerNorm(n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd), nn.Dropout(dropout))

    def forward(self, x):
        batch, time, width = x.shape
        heads = self.qkv(self.ln_1(x)).view(batch, time, 3, self.n_head, width // self.n_head)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        x = x + self.proj(y.transpose(1, 2).reshape(batch, time, width))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, vocab_size, block_size, n_layer, n_head, n_embd, dropout):
        super().__init__()
        self.block_size = block_size
        self.token_embedding = nn.Embedding(vocab_size, n_embd)
        self.position_embedding = nn.Embedding(block_size, n_embd)
        self.blocks = nn.ModuleList(Block(n_embd, n_head, dropout) for _ in range(n_layer))
        self.ln_f = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, vocab_size, bias=False)
        self.apply(self._init_weights)
        # One matrix reads characters and writes them.
        self.head.weight = self.token_embedding.weight

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)

    def forward(self, tokens, targets=None):
        x = self.token_embedding(tokens) + self.position_embedding(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.ln_f(x))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def generate(self, tokens, length):
        for _ in range(length):
            logits, _ = self(tokens[:, -self.block_size :])
            following = torch.multinomial(F.softmax(logits[:, -1], dim=-1), num_samples=1)
            tokens = torch.cat((tokens, following), dim=1)
        return tokens


def read_text():
    folder = os.path.dirname(os.__file__)
    texts = []
    for name in MODULES:
        with open(os.path.join(folder, name + ".py"), encoding="utf-8") as file:
            texts.append(file.read())
    return "".join(texts)


parser = argparse.ArgumentParser(description="A small GPT on the standard library's source text")
parser.add_argument("--max-iters", type=int, default=600)
parser.add_argument("--eval-interval", type=int, default=100)
parser.add_argument("--eval-iters", type=int, default=10)
parser.add_argument("--log-interval", type=int, default=20)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--block-size", type=int, default=64)
parser.add_argument("--n-layer", type=int, default=2)
parser.add_argument("--n-head", type=int, default=4)
parser.add_argument("--n-embd", type=int, default=64)
parser.add_argument("--dropout", type=float, default=0.1)
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--warmup", type=int, default=20)
parser.add_argument("--seed", type=int, default=1337)
parser.add_argument("--out", default="char_lm_out", help="folder of the checkpoint")
args = parser.parse_args()

torch.manual_seed(args.seed)
os.makedirs(args.out, exist_ok=True)
text = read_text()
characters = sorted(set(text))
index_of = {character: index for index, character in enumerate(characters)}
data = torch.tensor([index_of[character] for character in text])
cut = int(0.9 * len(data))
splits = {"train": data[:cut], "val": data[cut:]}


def get_batch(split):
    source = splits[split]
    starts = torch.randint(len(source) - args.block_size, (args.batch_size,)).tolist()
    x = torch.stack([source[start : start + args.block_size] for start in starts])
    y = torch.stack([source[start + 1 : start + 1 + args.block_size] for start in starts])
    return x, y


@torch.no_grad()
def estimate_loss():
    model.eval()
    losses = {}
    for split in splits:
        losses[split] = sum(model(*get_batch(split))[1].item() for _ in range(args.eval_iters)) / args.eval_iters
    model.train()
    return losses


def learning_rate(step):
    """Linear warm-up, then a cosine down to a tenth."""
    if step < args.warmup:
        return args.lr * (step + 1) / args.warmup
    progress = (step - args.warmup) / max(1, args.max_iters - args.warmup)
    return args.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, progress))))


model = GPT(len(characters), args.block_size, args.n_layer, args.n_head, args.n_embd, args.dropout)
decay = [p for p in model.parameters() if p.dim() >= 2]
no_decay = [p for p in model.parameters() if p.dim() < 2]
optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}], lr=args.lr)
print(f"{len(text)} characters, {len(characters)} different; {sum(p.numel() for p in model.parameters())} parameters")

step = 0
best_val_loss = float("inf")
x, y = get_batch("train")
while True:
    lr = learning_rate(step)
    for group in optimizer.param_groups:
        group["lr"] = lr

    if step % args.eval_interval == 0:
        losses = estimate_loss()
        print(f"step {step}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
        if losses["val"] < best_val_loss:
            best_val_loss = losses["val"]
            if step > 0:
                checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                torch.save(checkpoint, os.path.join(args.out, "ckpt.pt"))

    logits, loss = model(x, y)
    x, y = get_batch("train")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % args.log_interval == 0:
        print(f"iter {step}: loss {loss.item():.4f}, lr {lr:.2e}")

    step += 1
    if step > args.max_iters:
        break

model.eval()
sample = model.generate(torch.tensor([[index_of["\n"]]]), 200)[0].tolist()
print("".join(characters[index] for index in sample))
