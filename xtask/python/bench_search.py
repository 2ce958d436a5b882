"""Times faiss' flat index, for `cargo xtask bench search`.

    python bench_search.py THREADS

Needs faiss and numpy. First a line with faiss' version; then for each request on standard input (a line of JSON with
`vectors`, `d`, `queries` and `k`) a line with the milliseconds that finding the `k` nearest of all queries takes. The index
is made once per shape and not timed.
"""

import json
import sys
import time

import faiss
import numpy as np


def index_of(request, made):
    key = (request["vectors"], request["d"])
    if key not in made:
        drawn = np.random.default_rng(0).standard_normal(key, dtype=np.float32)
        faiss.normalize_L2(drawn)
        index = faiss.IndexFlatIP(request["d"])
        index.add(drawn)
        made.clear()
        made[key] = index
    return made[key]


def main():
    faiss.omp_set_num_threads(int(sys.argv[1]))
    print(json.dumps({"faiss": faiss.__version__}), flush=True)
    made = {}
    for line in sys.stdin:
        request = json.loads(line)
        index = index_of(request, made)
        queries = np.random.default_rng(1).standard_normal((request["queries"], request["d"]), dtype=np.float32)
        faiss.normalize_L2(queries)
        started = time.perf_counter()
        index.search(queries, request["k"])
        print(json.dumps({"ms": (time.perf_counter() - started) * 1e3}), flush=True)


if __name__ == "__main__":
    main()
