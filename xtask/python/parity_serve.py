"""Checks `matformer serve` with the clients that people use: lm-evaluation-harness and OpenAI's.

    python parity_serve.py --binary PATH --run MODEL --sizes S,XL --work DIR

Needs torch, transformers, `lm_eval[api]` and openai; no network. One server answers for all sizes. For each size, three
multiple-choice tasks, one of rolling perplexity and one of generation are run against it (`local-completions`) and
against `--model hf` on the folder that `slice` exports; every score, and every log-likelihood of every sample, must agree
to 1e-3, and every generated text must be the same. Then OpenAI's client lists models, completes, streams, chats, and gets
errors. Prints a line per check; exit code 1 where one fails.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from parity_tasks import ENDINGS, LIMIT, check, failed, harness, pages, write_task

os.environ.update(OPENAI_API_KEY="none")

NAME = "served"

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
    accuracy = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    accuracy += [{"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}]
    choice = {"output_type": "multiple_choice", "doc_to_target": "label", "metric_list": accuracy}
    rows = [{"q": q, "choices": c, "label": 0} for q, c in ENDINGS]
    task("endings", rows, doc_to_text="{{q}}", doc_to_choice="choices", **choice)
    rows = [{"q": q, "choices": [f"{q} {e}." for e in c[:2]], "label": 0} for q, c in ENDINGS]
    task("whole", rows, doc_to_text="", doc_to_choice="choices", **choice)
    rows = [{"q": q, "a": c[0], "b": c[-1], "label": i % 2} for i, (q, c) in enumerate(ENDINGS)]
    text = "Question: how does this go on?\n{{q}}\nA. {{a if label == 0 else b}}\nB. {{b if label == 0 else a}}\nAnswer:"
    task("letters", rows, doc_to_text=text, doc_to_choice=["A", "B"], **choice)
    metrics = [{"metric": m, "aggregation": a} for m, a in [
        ("word_perplexity", "weighted_perplexity"), ("byte_perplexity", "weighted_perplexity"), ("bits_per_byte", "bits_per_byte"),
    ]]
    task("rolling", pages(context), output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="{{page}}", metric_list=metrics)
    until = {"until": ["\n\n", "."], "do_sample": False, "temperature": 0, "max_gen_toks": 24}
    rows = [{"q": q, "answer": f" {c[0]}"} for q, c in ENDINGS]
    match = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
    task("generated", rows, output_type="generate_until", doc_to_text="{{q}}", doc_to_target="answer", generation_kwargs=until, metric_list=match)
    return ["endings", "whole", "letters", "rolling", "generated"]


def numbers(value):
    """All numbers in a nested list, in order."""
    if isinstance(value, (list, tuple)):
        return [n for one in value for n in numbers(one)]
    return [float(value)] if isinstance(value, (int, float)) else []


def compare(size, ours, theirs):
    for task, scores in theirs["results"].items():
        for metric, expected in scores.items():
            found = ours["results"][task].get(metric)
            if isinstance(expected, float) and "stderr" not in metric:
                # A perplexity is the exponential of what is compared.
                off = abs(found - expected) / max(1.0, abs(expected))
                check(f"{size} {task} {metric}", off <= LIMIT, f"{found:.5f}, transformers {expected:.5f}")
        by_document = [{s["doc_id"]: s["resps"] for s in e["samples"][task]} for e in (ours, theirs)]
        if task == "generated":
            check(f"{size} {task}: texts", by_document[0] == by_document[1], len(by_document[0]))
            continue
        pairs = [pair for i in by_document[1] for pair in zip(numbers(by_document[0][i]), numbers(by_document[1][i]), strict=True)]
        worst = max(abs(a - b) for a, b in pairs)
        # A rolling sum is of many tokens.
        limit = LIMIT * (1 if task != "rolling" else 100)
        check(f"{size} {task}: {len(pairs)} log-likelihoods", worst <= limit, f"at most {worst:.1e} apart")


def beside_transformers(url, context):
    tasks = write_tasks(args.work / "tasks", context)
    for size in args.sizes.split(","):
        out = args.work / f"slice-{size.replace('%', '')}"
        subprocess.run([args.binary, "slice", str(args.run), "--submodel", size, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
        served = {"model": f"{NAME}@{size}", "base_url": f"{url}/v1/completions", "num_concurrent": 4, "max_length": context}
        ours = harness("local-completions", served, tasks, args.work / "tasks")
        # The harness keeps two tokens of a served context for itself.
        exported = {"pretrained": str(out), "dtype": "float32", "max_length": context - 2, "device": "cpu"}
        compare(size, ours, harness("hf", exported, tasks, args.work / "tasks"))


def refused(what, kind, call, **expected):
    try:
        call()
    except kind as error:
        found = {key: getattr(error, key) for key in expected}
        check(what, found == expected and "found" in error.message, error.message[:100])
    else:
        check(what, False, "not refused")


def openai_client(url, chats):
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    small, large = (f"{NAME}@{size}" for size in (args.sizes.split(",")[0], args.sizes.split(",")[-1]))
    ids = [model.id for model in client.models.list().data]
    check("models", ids[0] == NAME and small in ids, ids)
    check("one model", client.models.retrieve(small).id == small)
    ask = {"model": small, "prompt": "Once upon a time", "max_tokens": 16, "temperature": 0}
    whole = client.completions.create(**ask, logprobs=2)
    check("completion", whole.usage.completion_tokens == len(whole.choices[0].logprobs.tokens), whole.choices[0].text)
    parts = client.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    parts = list(parts)
    text = "".join(part.choices[0].text for part in parts if part.choices)
    check("stream", text == whole.choices[0].text and parts[-1].usage == whole.usage, parts[-1].usage)
    if small != large:
        draft = {"size": args.sizes.split(",")[0], "len": 3}
        drafted = client.completions.create(**ask | {"model": large}, extra_body={"draft": draft})
        plain = client.completions.create(**ask | {"model": large})
        check("speculation", drafted.choices[0].text == plain.choices[0].text, drafted.usage.completion_tokens_details)
    messages = [{"role": "user", "content": "What is a fox?"}]
    chat = {"model": large, "messages": messages, "max_completion_tokens": 12, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    if chats:
        answer = client.chat.completions.create(**chat)
        scores = answer.choices[0].logprobs.content
        check("chat", answer.choices[0].message.role == "assistant" and len(scores) == answer.usage.completion_tokens)
        parts = list(client.chat.completions.create(**chat, stream=True))
        text = "".join(part.choices[0].delta.content or "" for part in parts)
        check("chat, streamed", text == answer.choices[0].message.content, text)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    refused("tools", openai.BadRequestError, lambda: client.chat.completions.create(**chat, tools=tools), param="tools", code="unsupported_value")
    refused("unknown model", openai.NotFoundError, lambda: client.completions.create(**ask | {"model": "other"}), param="model", code="model_not_found")
    refused("unknown size", openai.NotFoundError, lambda: client.completions.create(**ask | {"model": f"{NAME}@HUGE"}), param="model")
    refused("wrong type", openai.BadRequestError, lambda: client.completions.create(**ask | {"temperature": "hot"}), param="temperature")
    refused("unknown field", openai.BadRequestError, lambda: client.completions.create(**ask, extra_body={"found": 1}), param="found")


def main():
    logging.disable(logging.WARNING)
    # A longer one shows nothing more, and takes long.
    context = min(512, json.loads((args.run / "config.json").read_text())["max_position_embeddings"])
    command = [args.binary, "serve", str(args.run), "--name", NAME, "--port", "0", "--dtype", "f32", "--json"]
    with open(args.work / "serve.log", "w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = server.stdout.readline()
        if not line:
            sys.exit(f"the server did not start: {(args.work / 'serve.log').read_text()}")
        url = json.loads(line)["url"]
        import requests

        chats = requests.get(f"{url}/v1/models").json()["data"][0]["chat"]
        openai_client(url, chats)
        beside_transformers(url, context)
    finally:
        server.send_signal(signal.SIGTERM)
    check("the server ends with 0", server.wait(60) == 0)
    sys.exit(1 if failed else 0)


main()
