"""PyTorch's side of `cargo xtask bench train`: one timed step per line of standard input.

A line is a JSON object: {"d_model", "n_layers", "n_heads", "d_ff", "vocab", "rows", "seq",
"widths": [...], "compile": bool}; several widths are a joint step over prefixes of one set of
matrices. With "image", "patch", "channels" and "classes" in place of "vocab" and "seq" it is a vision
transformer. "device" is cpu or cuda; with "bf16" products are computed in bfloat16 (autocast). The answer is {"forward", "backward", "optimizer"} in milliseconds; the first answer for
an object comes after warming up. {"product": {"batch", "m", "n", "k", "left_transposed",
"right_transposed", "repeats"}} times independent matrix products [m, k] by [k, n] instead, of which one
factor may be stored transposed; the answer is the fastest of the repeats. {"memory": {...}, "steps": n}
gives the peak of resident memory in the first n steps above that before them, in MB; on cuda the most
that was allocated.
"""

import contextlib
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


class EncoderLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, width = c["d_model"], max(c["widths"])
        self.heads = c["n_heads"]
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-6), nn.LayerNorm(d, eps=1e-6)
        self.qkv, self.o = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, width), nn.Linear(width, d)

    def forward(self, x, width):
        rows, seq, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(rows, seq, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv.unbind(0))
        x = x + self.o(y.transpose(1, 2).reshape(rows, seq, d))
        h = F.gelu(F.linear(self.norm2(x), self.up.weight[:width], self.up.bias[:width]))
        return x + F.linear(h, self.down.weight[:, :width], self.down.bias)


class Encoder(nn.Module):
    """As timm writes it: fused query, key and value, a convolution for the patches."""

    def __init__(self, c):
        super().__init__()
        d, tokens = c["d_model"], (c["image"] // c["patch"]) ** 2 + 1
        self.patch = nn.Conv2d(c["channels"], d, c["patch"], stride=c["patch"])
        self.token = nn.Parameter(torch.randn(1, 1, d) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, tokens, d) * 0.02)
        self.layers = nn.ModuleList(EncoderLayer(c) for _ in range(c["n_layers"]))
        self.norm, self.head = nn.LayerNorm(d, eps=1e-6), nn.Linear(d, c["classes"])

    def forward(self, images, labels, width: int):
        x = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x, width)
        return F.cross_entropy(self.head(self.norm(x[:, 0])), labels)


class Step:
    """A model with its batch, its optimizer, and a training step in three timed parts."""

    def __init__(self, c, fused=None):
        torch.manual_seed(0)
        self.widths, self.device, self.bf16 = c["widths"], c["device"], c["bf16"]
        with torch.device(self.device):
            self.model = Encoder(c) if "image" in c else Decoder(c)
        self.loss = torch.compile(self.model) if c["compile"] else self.model
        batch = images(c) if "image" in c else tokens(c)
        self.ids, self.targets = (t.to(self.device) for t in batch)
        choices = (False, True) if fused is None else (fused,)
        self.optimizer = min((self.adamw(fused) for fused in choices), key=self.cost if fused is None else id)

    def adamw(self, fused):
        kind = {"fused": True} if fused else {"foreach": True}
        return torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, **kind)

    def cost(self, optimizer):
        self.optimizer = optimizer
        return min(self.run()["optimizer"] for _ in range(3))

    def run(self):
        start = now(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        with precision(self.device, self.bf16):
            losses = [self.loss(self.ids, self.targets, width) for width in self.widths]
        loss = sum(losses) / len(losses)
        forward = now(self.device)
        loss.backward()
        backward = now(self.device)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        end = now(self.device)
        times = {"forward": forward - start, "backward": backward - forward, "optimizer": end - backward}
        return {name: seconds * 1e3 for name, seconds in times.items()}


def now(device):
    """Seconds, when all that was asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def precision(device, bf16):
    return torch.autocast(device, dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()


def tokens(c):
    return tuple(torch.randint(c["vocab"], (c["rows"], c["seq"])) for _ in range(2))


def images(c):
    pixels = torch.rand(c["rows"], c["channels"], c["image"], c["image"]) - 0.5
    return pixels, torch.randint(c["classes"], (c["rows"],))


def product(p):
    device = p["device"]
    kind = {"device": device, "dtype": torch.bfloat16 if p["bf16"] else torch.float32}

    def stored(rows, columns, transposed):
        shape = (columns, rows) if transposed else (rows, columns)
        matrices = torch.rand(p["batch"], *shape, **kind)
        return matrices.transpose(1, 2) if transposed else matrices

    left = stored(p["m"], p["k"], p["left_transposed"])
    right = stored(p["k"], p["n"], p["right_transposed"])
    out = torch.empty(p["batch"], p["m"], p["n"], **kind)
    if p["batch"] == 1:
        left, right, out = left[0], right[0], out[0]
    times = []
    for _ in range(p["repeats"]):
        start = now(device)
        torch.matmul(left, right, out=out)
        times.append((now(device) - start) * 1e3)
    return {"product": min(times)}


def resident(field):
    with open("/proc/self/status") as status:
        return next(float(line.split()[1]) / 1e3 for line in status if line.startswith(field))


def memory(request, steps):
    step = Step(request, fused=True)
    if step.device == "cuda":
        for _ in range(steps):
            step.run()
        return {"memory": torch.cuda.max_memory_allocated() / 1e6}
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # Forgets the peak.
    before = resident("VmRSS:")
    for _ in range(steps):
        step.run()
    return {"memory": resident("VmHWM:") - before}


def main():
    torch.set_num_threads(int(sys.argv[1]))
    # As the peer's products in f32 on tensor cores.
    torch.backends.cuda.matmul.allow_tf32 = True
    print(json.dumps({"torch": torch.__version__}), flush=True)
    steps = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "product" in request:
                answer = product(request["product"])
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
