"""Loads `matformer serve` from another process: streaming clients of mixed sizes, then malformed requests.

    python bench_serve.py --binary PATH --model MODEL --out FILE [--clients 64] [--seconds 60] [--slots 8] [--tokens 64]
                          [--dtype f32] [--malformed 1000] [--gguf FILE]

Standard library only; with `--gguf`, the model's XL as llama.cpp reads it, also xllamacpp, whose server is asked in the
same way, by as many clients, in as many slots; `matformer serve` is then loaded once more with XL alone, so that both do
the same work. Each text of ours is compared with that of `matformer generate`, alone, at the same size. Writes one JSON
document: requests, errors, texts that differ, tokens per second, p50 and p95 of the time to the first token and between
tokens, and memory while it runs. Exit code 1 if a text differs, a request fails, a malformed request gets no 4xx, or the
server does not end with 0.
"""

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SIZES = ["S", "M", "L", "XL"]
PROMPTS = ["Once upon a time", "The house stood", "She opened the door and", "In the morning", "He said that", "The old man", "A dog", "They"]

parser = argparse.ArgumentParser()
parser.add_argument("--binary", required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--out", required=True, type=Path)
parser.add_argument("--clients", type=int, default=64)
parser.add_argument("--seconds", type=float, default=60)
parser.add_argument("--slots", type=int, default=8)
parser.add_argument("--tokens", type=int, default=64)
parser.add_argument("--dtype", default="f32")
parser.add_argument("--malformed", type=int, default=1000)
parser.add_argument("--gguf")
args = parser.parse_args()


def alone():
    """What `generate` makes of every prompt at every size, one after the other."""
    rows = [{"prompt": prompt, "submodel": size, "max_tokens": args.tokens} for size in SIZES for prompt in PROMPTS]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
        file.flush()
        command = [args.binary, "generate", args.model, "--prompts", file.name, "--slots", "1", "--dtype", args.dtype]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return {(row["submodel"], row["prompt"]): json.loads(line)["text"] for row, line in zip(rows, lines, strict=True)}


async def connect(url):
    host, port = url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


def request(body, path="/v1/completions"):
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def stream(url, body, found):
    """The text of a streamed completion; times of its pieces go into `found`."""
    reader, writer = await connect(url)
    started = last = time.perf_counter()
    text, first = "", True
    try:
        writer.write(request(json.dumps(body).encode()))
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(head.split(b"\r\n")[0].decode())
        while line := await reader.readline():
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            if usage := event.get("usage"):
                found["tokens"] += usage["completion_tokens"]
            if not any(choice["text"] for choice in event["choices"]):
                continue
            now = time.perf_counter()
            found["first" if first else "between"].append(now - (started if first else last))
            first, last = False, now
            text += "".join(choice["text"] for choice in event["choices"])
            found["pieces"] += 1
    finally:
        writer.close()
    return text


def ask(model, prompt):
    options = {"max_tokens": args.tokens, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    return {"model": model, "prompt": prompt} | options


def nothing_yet():
    return {"requests": 0, "tokens": 0, "pieces": 0, "different": 0, "errors": [], "first": [], "between": []}


async def client(number, url, model, sizes, expected, until, found):
    draws = random.Random(number)
    while time.perf_counter() < until:
        size, prompt = draws.choice(sizes), draws.choice(PROMPTS)
        body = ask(f"{model}@{size}" if expected else model, prompt)
        try:
            text = await stream(url, body, found)
            found["requests"] += 1
            if expected and text != expected[size, prompt]:
                found["different"] += 1
        except Exception as error:
            found["errors"].append(str(error) or type(error).__name__)


def memory(process):
    """Resident megabytes; None where the system does not say."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return None


async def watch(process, until, samples):
    while time.perf_counter() < until:
        samples.append(memory(process))
        await asyncio.sleep(1)


def quantiles(times):
    ordered = sorted(times)
    return {f"p{q}": 1e3 * ordered[min(len(ordered) - 1, len(ordered) * q // 100)] if ordered else None for q in (50, 95)}


async def load(url, model, sizes, expected, process):
    found = nothing_yet()
    until, samples = time.perf_counter() + args.seconds, []
    started = time.perf_counter()
    clients = [client(i, url, model, sizes, expected, until, found) for i in range(args.clients)]
    watching = [watch(process, until, samples)] if process else []
    await asyncio.gather(*clients, *watching)
    seconds = time.perf_counter() - started
    samples = [sample for sample in samples if sample is not None]
    return {
        "requests": found["requests"],
        "different": found["different"],
        "errors": found["errors"][:10],
        "n_errors": len(found["errors"]),
        "tokens_per_second": found["tokens"] / seconds,
        "first_token_ms": quantiles(found["first"]),
        "between_tokens_ms": quantiles(found["between"]),
        "memory_mb": {"after_a_second": samples[1], "last": samples[-1], "most": max(samples)} if len(samples) > 1 else None,
    }


def malformed(draws):
    """Bytes of a request that is wrong, and whether no answer is right, too."""
    good = {"prompt": "a", "max_tokens": 1}
    return draws.choice([
        lambda: (request(b'{"prompt": ' + b"[" * draws.randrange(5000)), False),
        lambda: (request(bytes(draws.randrange(128, 256) for _ in range(50))), False),
        lambda: (request(b'{"prompt": "' + b"a" * 3_000_000 + b'"}'), True),
        lambda: (request(json.dumps(good | {"temperature": [1]}).encode()), False),
        lambda: (request(json.dumps(good | {"model": f"served@{draws.randrange(10**9)}x3"}).encode()), False),
        lambda: (request(json.dumps(good | {"prompt": [[draws.randrange(10**9)]]}).encode()), False),
        lambda: (request(json.dumps(good | {"frobnicate": 1}).encode()), False),
        lambda: (b"\x16\x03\x01" + bytes(draws.randrange(256) for _ in range(200)), True),
        lambda: (b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 2000 + b"\r\n", True),
        lambda: (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", True),
        lambda: (request(json.dumps(good).encode())[: draws.randrange(40)], True),
        lambda: (request(json.dumps(good).encode())[:-1], True),
    ])()


async def attack(url, number):
    draws = random.Random(number)
    data, may_be_cut = malformed(draws)
    try:
        reader, writer = await connect(url)
        writer.write(data)
        await writer.drain()
        if draws.random() < 0.1:
            writer.close()
            return None
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    except (OSError, asyncio.TimeoutError):
        answer = b""
    status = answer.split(b" ")[1].decode() if answer.startswith(b"HTTP/1.1 ") else "cut"
    fits = status.startswith("4") or status == "cut" and may_be_cut
    return None if fits else f"{status} for {data[:80]!r}"


async def attacks(url, expected, process):
    wrong, before = [], memory(process)
    for start in range(0, args.malformed, 50):
        answers = await asyncio.gather(*(attack(url, number) for number in range(start, min(start + 50, args.malformed))))
        wrong += [answer for answer in answers if answer]
        text = await stream(url, ask("served@S", PROMPTS[0]), nothing_yet())
        if text != expected["S", PROMPTS[0]]:
            wrong.append("the next good request is answered with another text")
    return {"requests": args.malformed, "wrong": wrong, "memory_mb": {"before": before, "after": memory(process)}}


def llama_cpp(found):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = args.gguf
    params.n_parallel, params.n_ctx = args.slots, args.slots * 256
    params.port, params.warmup, params.verbosity = 18089, True, 0
    server = xllamacpp.Server(params)  # ends with its last name
    load_of = load(server.listening_address, "xl", ["XL"], None, None)
    found["llama_cpp"] = asyncio.run(load_of) | {"version": xllamacpp.__version__}


def main():
    expected = alone()
    command = [args.binary, "serve", args.model, "--name", "served", "--port", "0", "--dtype", args.dtype, "--json", "--quiet"]
    command += ["--slots", str(args.slots), "--queue", str(max(64, args.clients)), "--read-timeout", "5"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = json.loads(server.stdout.readline())["url"]
        found = {"clients": args.clients, "slots": args.slots, "seconds": args.seconds, "tokens": args.tokens, "dtype": args.dtype}
        found["mixed"] = asyncio.run(load(url, "served", SIZES, expected, server.pid))
        if args.gguf:
            found["xl"] = asyncio.run(load(url, "served", ["XL"], expected, server.pid))
        found["malformed"] = asyncio.run(attacks(url, expected, server.pid))
        # One more while it is stopped: it ends whole.
        last = []
        times = nothing_yet()
        thread = threading.Thread(target=lambda: last.append(asyncio.run(stream(url, ask("served@XL", PROMPTS[0]), times))))
        thread.start()
        while not times["pieces"]:
            time.sleep(0.001)
    finally:
        server.send_signal(signal.SIGTERM)
    thread.join(60)
    found["ended"] = {"code": server.wait(60), "last_is_whole": last == [expected["XL", PROMPTS[0]]]}
    if args.gguf:
        llama_cpp(found)
    args.out.write_text(json.dumps(found, indent=2) + "\n")
    loads = [found[name] for name in ("mixed", "xl", "llama_cpp") if name in found]
    fine = not any(load["n_errors"] or load["different"] for load in loads) and not found["malformed"]["wrong"]
    sys.exit(0 if fine and found["ended"] == {"code": 0, "last_is_whole": True} else 1)


main()
