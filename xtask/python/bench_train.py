"""PyTorch's side of `cargo xtask bench train`: one timed step per line of standard input.

A line is a JSON object: {"d_model", "n_layers", "n_heads", "d_ff", "vocab", "rows", "seq",
"widths": [...], "compile": bool}; several widths are a joint step over prefixes of one set of
matrices. The answer is {"forward", "backward", "optimizer"} in milliseconds; the first answer for
an object comes after warming up. {"product": [m, n, k]} times one matrix product instead, and
{"memory": {...}, "steps": n} gives the peak of resident memory in the first n steps above that before
them, in MB.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c["d_model"]
        self.heads = c["n_heads"]
        self.norm1, self.norm2 = nn.RMSNorm(d, eps=1e-5), nn.RMSNorm(d, eps=1e-5)
        self.q, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))
        width = max(c["widths"])
        self.gate, self.up, self.down = (nn.Parameter(torch.randn(width, d) * 0.02) for _ in range(3))

    def rope(self, x, cos, sin):
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def forward(self, x, width, cos, sin):
        rows, seq, d = x.shape
        h = self.norm1(x)
        split = lambda t: t.view(rows, seq, self.heads, d // self.heads).transpose(1, 2)
        q, k, v = self.rope(split(self.q(h)), cos, sin), self.rope(split(self.k(h)), cos, sin), split(self.v(h))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(rows, seq, d))
        h = self.norm2(x)
        gate, up, down = self.gate[:width], self.up[:width], self.down[:width]
        return x + (F.silu(h @ gate.t()) * (h @ up.t())) @ down


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed = nn.Embedding(c["vocab"], c["d_model"])
        nn.init.normal_(self.embed.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["n_layers"]))
        self.norm = nn.RMSNorm(c["d_model"], eps=1e-5)
        half = c["d_model"] // c["n_heads"] // 2
        angles = torch.outer(torch.arange(c["seq"]).float(), 10000.0 ** (-torch.arange(half).float() / half))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids, targets, width: int):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x, width, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embed.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Step:
    """A model with its batch, its optimizer, and a training step in three timed parts."""

    def __init__(self, c, fused=None):
        torch.manual_seed(0)
        self.widths = c["widths"]
        self.model = Decoder(c)
        self.loss = torch.compile(self.model) if c["compile"] else self.model
        self.ids, self.targets = (torch.randint(c["vocab"], (c["rows"], c["seq"])) for _ in range(2))
        choices = (False, True) if fused is None else (fused,)
        self.optimizer = min((self.adamw(fused) for fused in choices), key=self.cost if fused is None else id)

    def adamw(self, fused):
        kind = {"fused": True} if fused else {"foreach": True}
        return torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, **kind)

    def cost(self, optimizer):
        self.optimizer = optimizer
        return min(self.run()["optimizer"] for _ in range(3))

    def run(self):
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        loss = sum(self.loss(self.ids, self.targets, width) for width in self.widths) / len(self.widths)
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        end = time.perf_counter()
        times = {"forward": forward - start, "backward": backward - forward, "optimizer": end - backward}
        return {name: seconds * 1e3 for name, seconds in times.items()}


def product(m, n, k):
    a, b = torch.randn(m, k), torch.randn(k, n)
    start = time.perf_counter()
    a @ b
    return {"product": (time.perf_counter() - start) * 1e3}


def resident(field):
    with open("/proc/self/status") as status:
        return next(float(line.split()[1]) / 1e3 for line in status if line.startswith(field))


def memory(request, steps):
    step = Step(request, fused=True)
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # Forgets the peak.
    before = resident("VmRSS:")
    for _ in range(steps):
        step.run()
    return {"memory": resident("VmHWM:") - before}


def main():
    torch.set_num_threads(int(sys.argv[1]))
    print(json.dumps({"torch": torch.__version__}), flush=True)
    steps = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "product" in request:
                answer = product(*request["product"])
            elif "memory" in request:
                answer = memory(request["memory"], request["steps"])
            else:
                if line not in steps:
                    steps[line] = Step(request)
                answer = steps[line].run()
        except Exception as error:  # The bench prints it and goes on without this column.
            answer = {"error": str(error).splitlines()[0] if str(error) else type(error).__name__}
        print(json.dumps(answer), flush=True)


main()
