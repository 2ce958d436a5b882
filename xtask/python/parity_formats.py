"""Takes a pretrained model through `matformer import`, and slices of it to transformers and llama.cpp, and compares.

    python parity_formats.py --binary MATFORMER --gguf FILE --text FILE --out JSON
                             [--elastic MODEL] [--run RUN --code FILE] [--work DIR]

FILE is a GGUF file of a Llama, such as SmolLM2's. It is imported, and log-probabilities and greedy tokens are compared with
those of transformers, which reads the same file. Then submodels of MODEL (a model made elastic of it; the imported one, if
none is named), and of RUN, a trained run, are written with `matformer slice`: as a folder of Hugging Face, which transformers
loads, with zeros that make the widths equal, and as GGUF files, which llama.cpp loads. Each is compared with `matformer
score` and `generate` of the same submodel. Last, llama.cpp's speed at q8_0. TEXT is English for MODEL, and CODE for RUN is
Rust. Slices are written into DIR and removed when they were compared.

Needs torch, transformers and gguf; without xllamacpp the parts with llama.cpp are left out. llama.cpp keeps keys and values
in f32 and does without flash attention where numbers are compared; its speed is measured with its own defaults. A
log-probability of llama.cpp is that of a token that a bias on the logits forces: what it reports is from before the bias.

In f32 every log-probability and every greedy token must agree. At q8_0 weights are rounded, and llama.cpp rounds
activations too, which moves single log-probabilities of a small model by tenths: there the mean over the text must agree,
and the rest is reported.

Writes one JSON document; prints a line per comparison. Exit codes: 0 agreement, 1 not, 2 bad arguments, 3 a module is
missing.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Never the network, and no words of transformers between ours
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")

IMPORT_LIMIT = 1e-4
# Of each log-probability in f32, of their mean at q8_0
LIMITS = {"f32": 1e-3, "q8_0": 2e-2}
# Tokens that are compared: of the imported file, and of a slice
TOKENS, SLICE_TOKENS = 1000, 200
IMPORT_GREEDY, GREEDY = 64, 32
PROMPT = {"text": "The house by the river was", "code": "fn main() {\n    let"}
UNEQUAL = ["75%", "60%", "55%"]
SPEED = ["75%", "60%"]
ROUNDS, SPEED_TOKENS, WARM_TOKENS = 7, 64, 8


class Failed(Exception):
    """Why something does not pass."""


def missing():
    """Those of the modules that are not installed."""
    found = []
    for name in ["torch", "transformers", "gguf", "xllamacpp"]:
        try:
            version(name)
        except PackageNotFoundError:
            found.append(name)
    return found


class Ours:
    """A model, run by the tool."""

    def __init__(self, binary, folder):
        self.binary, self.folder = str(binary), Path(folder)

    def run(self, command, *arguments):
        """The JSON document that a command prints about the model."""
        line = [self.binary, command, str(self.folder), *map(str, arguments), "--json"]
        return run(line)

    def score(self, submodel, text):
        """Token ids and log-probabilities of each but the first."""
        printed = self.run("score", "--submodel", submodel, "--text", text)
        return printed["tokens"], printed["logprobs"][1:]

    def greedy(self, submodel, prompt, n):
        """Tokens behind a prompt; fewer than `n` if the model ends the text."""
        arguments = ["--submodel", submodel, "--prompt", prompt, "--max-tokens", n, "--temperature", 0]
        return self.run("generate", *arguments)["tokens"]

    def granularities(self):
        return [entry["name"] for entry in json.loads((self.folder / "matformer.json").read_text())["granularities"]]


def run(line):
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"`{' '.join(line[1:3])}` exits with {done.returncode}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout)


class Theirs:
    """A model, run by transformers in f32."""

    def __init__(self, folder, **arguments):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        local = {"local_files_only": True, **arguments}
        # Other shapes are let through here so that `info` names them
        reported = {"output_loading_info": True, "ignore_mismatched_sizes": True}
        self.model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **reported, **local)
        if wrong := {kind: sorted(map(str, names)) for kind, names in info.items() if names}:
            raise Failed(f"tensors do not fit: {wrong}")
        self.model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, **local)

    def score(self, tokens):
        import torch

        ids = torch.tensor(tokens)
        with torch.no_grad():
            predicted = self.model(ids[None]).logits[0, :-1].log_softmax(-1)  # [tokens - 1, vocabulary]
        return predicted.gather(1, ids[1:, None])[:, 0].tolist()

    def greedy(self, tokens, n):
        import torch
        from transformers import GenerationConfig

        # Nothing ends the text, and nothing but the logits decides.
        plain = GenerationConfig(do_sample=False, max_new_tokens=n, pad_token_id=0)
        ids = torch.tensor([tokens])
        with torch.no_grad():
            found = self.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=plain)
        return found[0, len(tokens) :].tolist()


def llama(request):
    """What llama.cpp makes of a request, in a process of its own: it may end it, or keep its memory."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "request.json"
        file.write_text(json.dumps(request))
        done = subprocess.run([sys.executable, __file__, "--llama", str(file)], capture_output=True, text=True)
        if done.returncode != 0:
            words = done.stderr.strip().splitlines()[-4:]
            raise Failed(f"llama.cpp: exits with {done.returncode}: {' '.join(words)}")
        return json.loads(file.read_text())


def llama_worker(file):
    """The other side of `llama`."""
    from xllamacpp import CommonParams, Server, ggml_type, llama_flash_attn_type

    def server(path, exact):
        params = CommonParams()
        params.model.path = path
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count()
        params.n_ctx, params.n_parallel = request["context"], 1
        if exact:
            params.cache_type_k = params.cache_type_v = ggml_type.GGML_TYPE_F32
            params.flash_attn_type = llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        return Server(params)

    def complete(server, prompt, n, **more):
        asked = {"prompt": prompt, "n_predict": n, "temperature": 0, "n_probs": 1, "ignore_eos": True, **more}
        answer = server.handle_completions(asked)
        if "choices" not in answer:
            raise Failed(f"llama.cpp answers {str(answer)[:300]}")
        return answer["choices"][0]["logprobs"]["content"] if more.get("n_probs", 1) else answer["timings"]

    request = json.loads(Path(file).read_text())
    if "speed" in request:
        servers = [server(path, False) for path in request["speed"]]
        speed = lambda server, n: complete(server, request["prompt"], n, n_probs=0)["predicted_per_second"]
        for each in servers:
            speed(each, WARM_TOKENS)
        answer = [[speed(each, SPEED_TOKENS) for each in servers] for _ in range(ROUNDS)]
    else:
        model, tokens = server(request["path"], True), request["tokens"]
        logprobs = []
        for end in range(1, len(tokens)):
            forced = {"logit_bias": [[tokens[end], 1e9]], "cache_prompt": True}
            (found,) = complete(model, tokens[:end], 1, **forced)
            if found["id"] != tokens[end]:
                raise Failed(f"llama.cpp gives token {found['id']}, forced was {tokens[end]}")
            logprobs.append(found["logprob"])
        greedy = complete(model, request["prompt"], request["greedy"])
        answer = {"logprobs": logprobs, "greedy": [token["id"] for token in greedy]}
    Path(file).write_text(json.dumps(answer))


def difference(ours, theirs, limit, of_mean=False):
    """The largest and the mean difference of log-probabilities, that of their means, and whether the largest, or that of
    the means, is within the limit."""
    apart = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    if not all(map(math.isfinite, apart)):
        raise Failed("a log-probability is not finite")
    of_means = statistics.fmean(theirs) - statistics.fmean(ours)
    judged = abs(of_means) if of_mean else max(apart)
    found = {"tokens": len(apart), "max": max(apart), "mean": statistics.fmean(apart), "of_means": of_means}
    return {**found, "limit": limit, "limit_of_means": of_mean, "ok": judged <= limit}


def same(ours, theirs):
    """How many of our tokens the others have too, from the first on."""
    equal = next((i for i, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]), len(ours))
    return {"greedy": len(ours), "greedy_same": equal}


def passes(result):
    """With greedy tokens taken into account, where single log-probabilities are."""
    same = result["greedy_same"] == result["greedy"] > 0
    return {**result, "ok": result["ok"] and (same or result["limit_of_means"])}


def say(result):
    found = result.get("error") or (
        f"{result['tokens']} tokens, largest difference {result['max']:.2e}, mean {result['mean']:.1e}, "
        f"of the means {result['of_means']:+.1e} (limit {result['limit']:g} of the "
        f"{'means' if result['limit_of_means'] else 'largest'}), {result['greedy_same']} of {result['greedy']} greedy tokens the same"
    )
    print(f"{result['name']}: {found}: {'ok' if result['ok'] else 'FAILED'}", flush=True)
    return result


def attempt(name, compare):
    """A comparison; whatever is raised is its verdict, and the next one still runs."""
    try:
        return say({"name": name, **passes(compare())})
    except Exception as error:
        if not isinstance(error, Failed):
            traceback.print_exc()
        return say({"name": name, "ok": False, "error": " ".join(f"{type(error).__name__}: {error}".split())})


def bytes_of(path):
    """Bytes of a file, or of the weights in a folder."""
    files = [path] if path.is_file() else [*path.glob("*.safetensors"), *path.glob("*.gguf")]
    return sum(file.stat().st_size for file in files)


def cut(tokenizer, text, n):
    """The beginning of a text that is so many tokens."""
    ids = tokenizer(text, add_special_tokens=False).input_ids[:n]
    if len(ids) < n:
        raise Failed(f"the text has {len(ids)} tokens, expected at least {n}")
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def imported(binary, gguf, text, work):
    """The imported model, and how it compares with transformers on the same file."""
    folder = work / "imported"
    run([str(binary), "import", str(gguf), "--out", str(folder), "--json"])
    ours, theirs = Ours(binary, folder), Theirs(str(gguf.parent), gguf_file=gguf.name)
    text = cut(theirs.tokenizer, text, TOKENS)
    submodel = ours.granularities()[-1]

    def compare():
        tokens, logprobs = ours.score(submodel, text)
        ids = theirs.tokenizer(text, add_special_tokens=False).input_ids
        if tokens[1:] != ids:
            raise Failed(f"`score` has {len(tokens) - 1} tokens {tokens[1:9]}…, AutoTokenizer {len(ids)}: {ids[:8]}…")
        prompt = ours.score(submodel, PROMPT["text"])[0]
        greedy = ours.greedy(submodel, PROMPT["text"], IMPORT_GREEDY)
        found = difference(logprobs, theirs.score(tokens), IMPORT_LIMIT)
        return {**found, **same(greedy, theirs.greedy(prompt, IMPORT_GREEDY))}

    return ours, attempt("import, against transformers", compare), theirs.tokenizer


class Slices:
    """Slices of one model, each compared with what the tool says of the submodel."""

    def __init__(self, name, ours, tokenizer, text, prompt, work, with_llama):
        self.name, self.ours, self.prompt, self.work, self.with_llama = name, ours, prompt, work, with_llama
        self.text = cut(tokenizer, text, SLICE_TOKENS)
        self.results = []

    def all(self):
        names = self.ours.granularities()
        equal = names[len(names) // 2 - 1]
        for submodel in [names[-1], equal, *UNEQUAL]:
            self.of(submodel, submodel in UNEQUAL)

    def of(self, submodel, unequal):
        """Every form that a submodel is written in."""
        tokens, logprobs = self.ours.score(submodel, self.text)
        prompt = self.ours.score(submodel, self.prompt)[0]
        expected = {
            "tokens": tokens,
            "logprobs": logprobs,
            "prompt": prompt,
            "greedy": self.ours.greedy(submodel, self.prompt, GREEDY),
        }
        self.compare(submodel, expected, "hf", "f32", remote=unequal)
        if unequal:
            self.compare(submodel, expected, "hf", "f32", pad=True)
        if self.with_llama:
            for dtype in LIMITS:
                self.compare(submodel, expected, "gguf", dtype)
            if unequal:
                self.compare(submodel, expected, "gguf", "f32", pad=True)

    def compare(self, submodel, expected, form, dtype, pad=False, remote=False):
        program = "transformers" if form == "hf" else "llama.cpp"
        name = f"{self.name} {submodel}, {form} {dtype}{', padded' if pad else ''}, in {program}"
        fact = {"model": self.name, "submodel": submodel, "format": form, "dtype": dtype, "padded": pad}
        path = self.work / ("slice.gguf" if form == "gguf" else "slice")

        def found():
            out = self.write(submodel, path, form, dtype, pad)
            fact.update(bytes=bytes_of(out), remote_code=remote)
            if form == "hf":
                model = Theirs(str(out), trust_remote_code=remote)
                fact["architecture"] = type(model.model).__name__
                theirs = {"logprobs": model.score(expected["tokens"]), "greedy": model.greedy(expected["prompt"], GREEDY)}
            else:
                asked = {"path": str(out), "context": len(expected["tokens"]) + 8, "greedy": GREEDY}
                theirs = llama({**asked, "tokens": expected["tokens"], "prompt": expected["prompt"]})
            apart = difference(expected["logprobs"], theirs["logprobs"], LIMITS[dtype], dtype == "q8_0")
            return {**fact, **apart, **same(expected["greedy"], theirs["greedy"])}

        self.results.append({**fact, **attempt(name, found)})
        remove(path)

    def write(self, submodel, path, form, dtype, pad):
        """Writes a slice; returns its folder or its file."""
        remove(path)
        arguments = ["--submodel", submodel, "--format", form, "--dtype", dtype, "--out", path, *(["--pad"] if pad else [])]
        self.ours.run("slice", *arguments)
        inside = sorted(path.glob("*.gguf")) if form == "gguf" and path.is_dir() else []
        return inside[0] if inside else path

    def speed(self):
        """llama.cpp's tokens per second of XL and of smaller sizes, in turn."""
        names = [self.ours.granularities()[-1], *SPEED]
        paths = [self.write(name, self.work / f"speed-{i}.gguf", "gguf", "q8_0", False) for i, name in enumerate(names)]
        prompt = self.ours.score(names[0], self.prompt)[0]
        context = len(prompt) + SPEED_TOKENS + 8
        rounds = llama({"speed": list(map(str, paths)), "prompt": prompt, "context": context})
        sizes = [bytes_of(path) for path in paths]
        medians = [statistics.median(column) for column in zip(*rounds)]
        for path in paths:
            remove(path)
        results = []
        for i, name in enumerate(names):
            times = [row[i] for row in rounds]
            results.append(
                {
                    "model": self.name,
                    "submodel": name,
                    "bytes": sizes[i],
                    "tokens_per_second": medians[i],
                    "slowest": min(times),
                    "fastest": max(times),
                    # Each round has its own pace: ratios are taken within it
                    "speedup": statistics.median(row[i] / row[0] for row in rounds),
                    "bytes_saved": sizes[0] / sizes[i],
                }
            )
            print(f"{name} at q8_0: {sizes[i] / 1e6:.1f} MB, {medians[i]:.1f} tokens/s", flush=True)
        return results


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def main():
    parser = argparse.ArgumentParser(description="Compares imported and sliced models with transformers and llama.cpp.")
    parser.add_argument("--binary", type=Path, help="the built `matformer`")
    parser.add_argument("--gguf", type=Path, help="a GGUF file of a Llama")
    parser.add_argument("--text", type=Path, help="English text")
    parser.add_argument("--elastic", type=Path, help="model folder that was made of the file")
    parser.add_argument("--run", type=Path, help="run folder of a language model trained on Rust")
    parser.add_argument("--code", type=Path, help="Rust text")
    parser.add_argument("--work", type=Path, help="folder for slices (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--llama", metavar="FILE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.llama:
        return llama_worker(args.llama)
    if not (args.binary and args.gguf and args.text and args.out) or bool(args.run) != bool(args.code):
        parser.error("--binary, --gguf, --text and --out are needed; --run and --code go together")
    absent = missing()
    if needed := [name for name in absent if name != "xllamacpp"]:
        print(f"missing: {' '.join(needed)}", file=sys.stderr)
        return 3
    with_llama = not absent
    if not with_llama:
        print("xllamacpp is not installed: llama.cpp is left out", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        document = compare_all(args, Path(work), with_llama)
    document["versions"] = {name: version(name) for name in ["torch", "transformers", "gguf", "xllamacpp"] if name not in absent}
    document["missing"] = absent
    args.out.write_text(json.dumps(document))
    return 0 if all(result["ok"] for result in [document["import"], *document["slices"]]) else 1


def compare_all(args, work, with_llama):
    from transformers import AutoTokenizer

    ours, verdict, tokenizer = imported(args.binary, args.gguf, args.text.read_text(), work)
    verdict["bytes"] = {"file": bytes_of(args.gguf), "folder": bytes_of(ours.folder)}
    elastic = Ours(args.binary, args.elastic) if args.elastic else ours
    models = [Slices("SmolLM2", elastic, tokenizer, args.text.read_text(), PROMPT["text"], work, with_llama)]
    if args.run:
        own = AutoTokenizer.from_pretrained(str(args.run), local_files_only=True)
        models.append(Slices("demo", Ours(args.binary, args.run), own, args.code.read_text(), PROMPT["code"], work, with_llama))
    for model in models:
        model.all()
    return {
        "import": verdict,
        "slices": [result for model in models for result in model.results],
        "speed": models[0].speed() if with_llama else None,
        "elastic": bool(args.elastic),
    }


if __name__ == "__main__":
    sys.exit(main())
