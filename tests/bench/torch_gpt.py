"""The peer of bench_train.py, run by PyTorch's own interpreter: a plain GPT, eager, SDPA, fused AdamW, float32.

Reads one line "STEPS" from stdin at a time, trains that many steps and answers with their wall and CPU seconds as
JSON, so that it can take turns with ladder on the same machine.
"""

import json
import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        b, length, d = x.shape
        qkv = self.qkv(self.norms[0](x)).view(b, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        o = F.scaled_dot_product_attention(*qkv, is_causal=True)
        x = x + self.out(o.transpose(1, 2).reshape(b, length, d))
        return x + self.down(F.gelu(self.up(self.norms[1](x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, layers: int, d: int, heads: int, vocab: int, length: int):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(vocab, d), nn.Embedding(length, d)
        self.blocks = nn.Sequential(*(Block(d, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, vocab, bias=False)

    def forward(self, tokens):
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def main(layers: int, d: int, heads: int, vocab: int, length: int, batch: int) -> None:
    torch.manual_seed(0)
    model = GPT(layers, d, heads, vocab, length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = torch.randint(vocab, (batch, length + 1))
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), cpu_seconds()
        for _ in range(int(line)):
            logits = model(tokens[:, :-1])
            loss = F.cross_entropy(logits.reshape(-1, vocab), tokens[:, 1:].reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        loss.item()
        print(json.dumps([time.perf_counter() - wall, cpu_seconds() - cpu]), flush=True)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
