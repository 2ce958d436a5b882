"""Checks that Hugging Face transformers loads a model folder with no code of ours and agrees with `matformer score`.

    python parity_transformers.py FOLDER [FOLDER ...] --binary PATH --text TEXT [--submodel S] [--json]

Needs torch and transformers. For each folder: it loads as `LlamaForCausalLM`, no tensor is missing, unexpected or of
another shape, the tokenizer gives the ids that the tool used, and the log-probability of every token is within 1e-4 of
the tool's. Without `--submodel` the last (widest) granularity in `matformer.json` is scored. Prints a line per folder,
or one JSON document. Exit codes: 0 agreement, 1 not, 2 bad arguments, 3 torch or transformers is not installed.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path

# Never the network, and no words of transformers between ours
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
try:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError as error:
    print(f"missing: {error.name or error} (needs Python with: pip install torch transformers)", file=sys.stderr)
    sys.exit(3)

LIMIT = 1e-4


class Failed(Exception):
    """Why a folder does not pass."""


def load(folder):
    """The folder's model and tokenizer; fails unless every tensor fits."""
    local = {"trust_remote_code": False, "local_files_only": True}
    # Other shapes are let through here so that `info` names them
    reported = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **reported, **local)
    if type(model).__name__ != "LlamaForCausalLM":
        raise Failed(f"loads as `{type(model).__name__}`, expected `LlamaForCausalLM`")
    if wrong := {kind: sorted(map(str, names)) for kind, names in info.items() if names}:
        raise Failed(f"tensors do not fit: {wrong}")
    return model.eval(), AutoTokenizer.from_pretrained(folder, **local)


def widest(folder):
    """The name of the last granularity in the folder's `matformer.json`."""
    return json.loads((folder / "matformer.json").read_text())["granularities"][-1]["name"]


def tool_score(binary, folder, submodel, text):
    """Token ids and log-probabilities that the tool prints; the first log-probability is None."""
    command = [binary, "score", str(folder), "--submodel", submodel, "--text", text, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"`score` exits with {done.returncode}: {done.stderr.strip()}")
    try:
        printed = json.loads(done.stdout)
        tokens, logprobs = printed["tokens"], printed["logprobs"]
    except (ValueError, LookupError, TypeError) as error:
        raise Failed(f"`score` prints other JSON than expected ({error!r}): {done.stdout[:200]}") from error
    if len(tokens) < 2 or len(tokens) != len(logprobs) or logprobs[0] is not None or None in logprobs[1:]:
        raise Failed(f"expected two tokens or more, each but the first with a log-probability: {done.stdout[:200]}")
    return tokens, logprobs


@torch.no_grad()
def torch_score(model, tokens):
    """Log-probability of each token but the first, given those before it."""
    ids = torch.tensor(tokens)
    predicted = model(ids[None]).logits[0, :-1].log_softmax(-1)  # [tokens - 1, vocabulary], f32
    return predicted.gather(1, ids[1:, None])[:, 0].tolist()


def compare(folder, binary, text, submodel):
    """What one folder gives: submodel, number of tokens, largest absolute difference."""
    submodel = submodel or widest(folder)
    model, tokenizer = load(folder)
    tokens, logprobs = tool_score(binary, folder, submodel, text)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    if tokens not in (ids, [tokenizer.convert_tokens_to_ids("<|endoftext|>"), *ids]):
        raise Failed(f"`score` has {len(tokens)} tokens {tokens[:8]}…, AutoTokenizer {len(ids)}: {ids[:8]}…")
    if len(tokens) > (context := model.config.max_position_embeddings):
        raise Failed(f"the text has {len(tokens)} tokens, more than the context of {context}: give a shorter one")
    differences = [abs(ours - theirs) for ours, theirs in zip(logprobs[1:], torch_score(model, tokens))]
    if not all(map(math.isfinite, differences)):
        raise Failed("a log-probability is not finite")
    largest = max(differences)
    return {"submodel": submodel, "tokens": len(tokens), "max_abs_diff": largest, "ok": largest <= LIMIT}


def main():
    parser = argparse.ArgumentParser(description="Compares model folders with Hugging Face transformers.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--binary", required=True, help="the built `matformer`")
    parser.add_argument("--text", required=True, help="text to score, at most one context long")
    parser.add_argument("--submodel", help="what to score (default: the last granularity in matformer.json)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    results = []
    for folder in args.folders:
        try:
            result = compare(folder.resolve(strict=True), args.binary, args.text, args.submodel)
            line = f"{result['tokens']} tokens of {result['submodel']}, largest difference {result['max_abs_diff']:.2e}"
        except Exception as error:  # whatever is raised is this folder's verdict; the next one still runs
            line = " ".join(f"{type(error).__name__}: {error}".removeprefix("Failed: ").split())
            result = {"error": line, "ok": False}
        results.append({"folder": str(folder), **result})
        if not args.json:
            print(f"{folder}: {line} (limit {LIMIT:g}): {'ok' if result['ok'] else 'FAILED'}", flush=True)
    if args.json:
        print(json.dumps({"limit": LIMIT, "results": results}))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
