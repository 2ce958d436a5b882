"""What the checks with lm-evaluation-harness share: rows of tasks, files of tasks, and lines that say what was found."""

import json
import os

# Before torch, transformers and lm_eval are loaded.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")

LIMIT = 1e-3
# A question, and endings of which the first is right.
ENDINGS = [
    ("The sun rises in the", ["east", "west", "kettle", "spoon"]),
    ("She opened the door and walked into the", ["room", "number", "of", "seven"]),
    ("He was so tired that he went to", ["bed", "blue", "quickly", "the the"]),
    ("In winter the lake is covered with", ["ice", "fire", "bread", "letters"]),
    ("They sat by the fire and told", ["stories", "stones", "rivers", "green"]),
    ("The old man walked slowly down the", ["street", "idea", "seldom", "milk"]),
    ("The child laughed and clapped her", ["hands", "window", "yesterday", "hill"]),
    ("The ship sailed across the", ["sea", "page", "onion", "whisper"]),
    ("Once upon a time there lived a", ["king", "of", "running", "and"]),
    ("The letter was written in black", ["ink", "rain", "noise", "sheep"]),
]
TEXTS = [
    "It was a cold morning, and the streets were empty. A dog barked somewhere, and then it was quiet again. ",
    "The house stood at the end of the lane. Nobody had lived in it for years, and the garden had grown wild. ",
    "Größere Wörter, wie „Überraschung“, und ein Café — 日本語 🦊. ",
]

failed = []


def check(what, fits, found=""):
    print(f"{'ok' if fits else 'FAILED'}: {what}{f': {found}' if found != '' else ''}", flush=True)
    if not fits:
        failed.append(what)


def write_task(folder, name, rows, **keys):
    """A task over a file of its own, in `folder`."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    document = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}}
    document |= {"test_split": "test", "metadata": {"version": 1}} | keys
    # A line a key, so that errors name the key's line; JSON is YAML.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in document.items()]
    (folder / f"{name}.yaml").write_text("".join(lines))


def pages(context):
    """Rows of rolling perplexity; the last is of several windows."""
    return [{"page": text} for text in [*TEXTS, "".join(TEXTS) * max(2, context // 40)]]


def harness(model, model_args, tasks, folder, limit=None):
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return lm_eval.simple_evaluate(
        model=model, model_args=model_args, tasks=tasks, task_manager=manager, batch_size=1, log_samples=True, bootstrap_iters=0,
        limit=limit,
    )
