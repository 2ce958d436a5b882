"""Checks `matformer eval --tasks` with lm-evaluation-harness.

    python parity_lm_eval.py --binary PATH --run MODEL --sizes S,XL --work DIR

Needs torch, transformers and lm_eval; no network. Five tasks of all four output types are scored by `matformer eval` at
all sizes at once, and by the harness with `--model hf` on the folder that `slice` exports of each size. Every
log-likelihood of every example must agree to 1e-3, accuracies must be equal, and so must be generated texts and which
continuations are the likeliest, except where the two likeliest tokens are less than 1e-3 apart. Prints a line per check;
exit code 1 where one fails.
"""

import argparse
import json
import logging
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

from parity_tasks import ENDINGS, LIMIT, TEXTS, check, failed, harness, pages, write_task

parser = argparse.ArgumentParser()
parser.add_argument("--binary", required=True)
parser.add_argument("--run", required=True, type=Path)
parser.add_argument("--sizes", default="S,XL")
parser.add_argument("--work", required=True, type=Path)
args = parser.parse_args()


def write_tasks(folder, context):
    """The five tasks, over files of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    task = partial(write_task, folder)

    def metrics(*names):
        return [{"metric": name} for name in names]

    rows = [{"q": q, "choices": c, "label": 0} for q, c in ENDINGS]
    shots = {"fewshot_split": "test", "num_fewshot": 1}
    task(
        "endings", rows, output_type="multiple_choice", doc_to_text="{{q}}", doc_to_choice="choices",
        doc_to_target="label", metric_list=metrics("acc", "acc_norm"), **shots,
    )
    task(
        "blanks", rows, output_type="multiple_choice", doc_to_text="{{label}}", doc_to_target="as everybody knows.",
        doc_to_choice="{{[q + ' ' + choices[0], q + ' ' + choices[1]]}}", metric_list=metrics("acc"), **shots,
    )
    last = [{"text": f"{q} {c[0]}"} for q, c in ENDINGS] + [{"text": text.strip()} for text in TEXTS]
    task(
        "last", last, output_type="loglikelihood", doc_to_text="{{text.split(' ')[:-1]|join(' ')}}",
        doc_to_target="{{' ' + text.split(' ')[-1]}}", metric_list=metrics("perplexity", "acc"), **shots,
    )
    task(
        "pages", pages(context), output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="page",
        metric_list=metrics("word_perplexity", "byte_perplexity", "bits_per_byte"),
    )
    until = {"until": ["\n\n", "."], "do_sample": False, "temperature": 0, "max_gen_toks": min(24, context // 2)}
    answers = [{"q": q, "answer": [f" {c[0]}", c[0].upper()]} for q, c in ENDINGS]
    task(
        "generated", answers, output_type="generate_until", doc_to_text="{{q}}", doc_to_target="{{answer}}",
        generation_kwargs=until, metric_list=[{"metric": "exact_match", "ignore_case": True}], **shots,
    )
    return ["endings", "blanks", "last", "pages", "generated"]


def compare(name, size, at, task, theirs):
    """One size's samples and scores of a task."""
    samples = sorted(theirs["samples"][name], key=lambda sample: sample["doc_id"])
    check(f"{size} {name}: examples", len(samples) == len(task["samples"]), len(samples))
    if name == "generated":
        found = [sample["generated"][at] for sample in task["samples"]]
        expected = [sample["resps"][0][0] for sample in samples]
        same = sum(a == b for a, b in zip(found, expected))
        check(f"{size} {name}: texts", same == len(expected), f"{same} of {len(expected)} equal")
    else:
        worst, tokens, greedy, pairs = 0.0, 0, 0, 0
        for ours, sample in zip(task["samples"], samples):
            told = [resp[0] for resp in sample["resps"]]
            for n, (found, one) in enumerate(zip(ours["loglikelihoods"][at], told, strict=True)):
                expected, likeliest = (one, None) if isinstance(one, float) else (one[0], one[1])
                # A whole page is a sum over hundreds of tokens in single precision.
                worst = max(worst, abs(found - expected) / (max(1.0, abs(expected) / 100) if name == "pages" else 1.0))
                pairs += 1
                if "greedy" in ours:
                    greedy += ours["greedy"][at][n] != likeliest
        check(f"{size} {name}: {pairs} log-likelihoods", worst <= LIMIT, f"at most {worst:.1e} apart")
        if "greedy" in task["samples"][0]:
            check(f"{size} {name}: which are the likeliest", greedy == 0, f"{greedy} differ")
    scores = theirs["results"][name]
    for score in task["results"][at]["scores"]:
        expected = next(value for key, value in scores.items() if key.split(",")[0] == score["metric"])
        exact = "acc" in score["metric"] or score["metric"] == "exact_match"
        fits = math.isclose(score["value"], expected, rel_tol=1e-12 if exact else LIMIT)
        check(f"{size} {name}: {score['metric']}", fits, f"{score['value']:.5f}, the harness {expected:.5f}")


def main():
    logging.disable(logging.WARNING)
    context = json.loads((args.run / "config.json").read_text())["max_position_embeddings"]
    folder = args.work / "tasks"
    names = write_tasks(folder, context)
    command = [args.binary, "eval", str(args.run), "--submodels", args.sizes, "--tasks", ",".join(names)]
    command += ["--task-path", str(folder), "--json"]
    ours = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    for at, size in enumerate(args.sizes.split(",")):
        out = args.work / f"slice-{size.replace('%', '')}"
        slice_command = [args.binary, "slice", str(args.run), "--submodel", size, "--out", str(out)]
        subprocess.run(slice_command, check=True, stdout=subprocess.DEVNULL)
        theirs = harness("hf", {"pretrained": str(out), "dtype": "float32", "device": "cpu"}, names, folder)
        for name, task in zip(names, ours["tasks"], strict=True):
            compare(name, size, at, task, theirs)
    print(f"{len(failed)} failed" if failed else "all agree")
    sys.exit(1 if failed else 0)


main()
