"""Times llama.cpp on a GGUF file; prints JSON. The same prompts and lengths as `matformer bench decode`.

    python bench_decode.py model.gguf --threads 2 --tokens 128 --batch 8 --prefill 512

Needs xllamacpp. Everything is as llama.cpp does it by default.
"""

import argparse
import json
import threading
import time

from xllamacpp import CommonParams, Server

WARM = 8


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--prefill", type=int, required=True)
    parser.add_argument("--vocab", type=int, required=True)
    args = parser.parse_args()

    prompt = lambda n: [i * 31 % args.vocab for i in range(n)]
    texts = [(16 + i * 7 % 32, args.tokens - i % 4 * (args.tokens // 8)) for i in range(args.batch)]
    longest = max([args.prefill + 1] + [a + b for a, b in texts])

    params = CommonParams()
    params.model.path = args.gguf
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    params.n_parallel = args.batch
    params.n_ctx = (longest + 16) * args.batch
    server = Server(params)

    def complete(n_prompt, n):
        answer = server.handle_completions(
            {"prompt": prompt(n_prompt), "n_predict": n, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        )
        if "timings" not in answer:
            raise SystemExit(f"llama.cpp answers {str(answer)[:300]}")
        return answer["timings"]

    complete(16, WARM)
    found = {"prefill": complete(args.prefill, 1)["prompt_per_second"]}
    if args.batch == 1:
        found["tokens_per_second"] = complete(*texts[0])["predicted_per_second"]
    started = time.perf_counter()
    threads = [threading.Thread(target=complete, args=text) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found["with_prompts"] = sum(n for _, n in texts) / (time.perf_counter() - started)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
