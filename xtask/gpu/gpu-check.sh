#!/usr/bin/env bash
# Measures a graphics card with the programs in this folder. Needs no toolchain and no network.
#
#   ./gpu-check.sh [--device cuda] [--python PYTHON] [--out FOLDER] [--quick]
#
# --python  an interpreter with torch, to measure PyTorch on the same card
# --quick   small models only: for a device that is emulated on the CPU
#
# FOLDER/gpu.json (default: results/gpu.json) is written after every part, so that a run that is broken off
# still says something.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
device=cuda python= out=$PWD/results quick=
while [ $# -gt 0 ]; do
    case $1 in
    --device) device=$2 && shift 2 ;;
    --python) python=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    --quick) quick=yes && shift ;;
    *) echo "gpu-check.sh: $1: expected --device, --python, --out or --quick" >&2 && exit 2 ;;
    esac
done
parts=$out/parts
mkdir -p "$parts"
rm -f "$parts"/*
started=$(date +%s)
# Kernels are compiled once per shape: property tests then try a fixed list of shapes.
export MATFORMER_DEVICE=$device PROPTEST_CASES=12 PROPTEST_RNG_SEED=1
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
few= few_tokens=
if [ -n "$quick" ]; then
    export CUBECL_AUTOTUNE_LEVEL=minimal
    few="--set train.steps=3 --set train.tokens_per_step=256 --set train.eval_tokens=256"
    few_tokens="--tokens 256"
fi

# A JSON string of what comes in.
quoted() {
    tr -d '\000-\010\013-\037' | sed 's/\\/\\\\/g; s/"/\\"/g; s/\t/\\t/g' |
        awk 'BEGIN { printf "\"" } NR > 1 { printf "\\n" } { printf "%s", $0 } END { printf "\"" }'
}

# Everything that is there so far, as one document.
assemble() {
    {
        printf '{\n"device": "%s", "date": "%s", "seconds": %d, "card": ' \
            "$device" "$(date -u +%F)" $(($(date +%s) - started))
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | quoted
        printf ', "commit": '
        quoted <"$here/commit"
        for part in "$parts"/*.json; do
            printf ',\n"%s": ' "$(basename "$part" .json)"
            cat "$part"
        done
        printf '\n}\n'
    } >"$out/gpu.json.part"
    mv "$out/gpu.json.part" "$out/gpu.json"
}

# part NAME SECONDS COMMAND...: keeps the JSON that a command prints, or why there is none.
part() {
    local name=$1 most=$2 status=0 begun
    shift 2
    # A device that the CPU emulates takes its time.
    [ -n "$quick" ] && most=$((4 * most))
    begun=$(date +%s)
    echo "$name: at most $most s" >&2
    timeout "$most" "$@" >"$parts/$name.out" 2>"$parts/$name.log" || status=$?
    if [ -s "$parts/$name.out" ] && [ $status -ne 124 ]; then
        mv "$parts/$name.out" "$parts/$name.json"
    else
        printf '{ "failed": %d, "log": %s }' $status "$(tail -n 20 "$parts/$name.log" | quoted)" >"$parts/$name.json"
    fi
    echo "$name: exit status $status after $(($(date +%s) - begun)) s" >&2
    assemble
}

# suite PROGRAM NAME FILTER...: runs the tests of a crate, and counts.
suite() {
    local program=$1 name=$2 log status=0 begun failed
    shift 2
    log=$parts/suite-$name.txt
    begun=$(date +%s)
    CARGO_MANIFEST_DIR=$here/crates/matformer-$name "$here/suites/$program" "$@" >"$log" 2>&1 || status=$?
    failed=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | quoted)
    count() { sed -n "s/^test result:.* \([0-9]*\) $1.*/\1/p" "$log" | tail -n 1; }
    local passed=$(count passed) refused=$(count failed)
    printf '{ "passed": %d, "failed": %d, "names": %s, "seconds": %d, "status": %d, "log": %s }' \
        "${passed:-0}" "${refused:-0}" "$failed" $(($(date +%s) - begun)) $status \
        "$([ $status -eq 0 ] || tail -n 40 "$log" | quoted)$([ $status -ne 0 ] || printf '""')"
}

# A model trained, measured and asked for text, from the command line.
command_line() {
    cd "$out" && rm -rf run || return 1 # the page names no folder of this machine
    "$here/matformer" train "$here/check.toml" --device "$device" --out run $few >&2 &&
        "$here/matformer" generate run --device "$device" --prompt "pub fn" --max-tokens 16 >&2 &&
        "$here/matformer" eval run --device "$device" --json $few_tokens
}
export -f suite quoted command_line
export here out parts device few few_tokens

with_python=()
[ -n "$python" ] && with_python=(--python "$python")
speed=("$here/speed" train --device "$device" --json --widths XL "${with_python[@]}")
part doctor 150 "$here/matformer" doctor --device "$device" --json ${quick:+--quick}
if [ -n "$quick" ]; then
    part train-f32 60 "${speed[@]}" --shapes tiny --rounds 1
    part memory 60 "$here/speed" memory --device "$device" --json --shape tiny --steps 50
else
    part train-180m-bf16 90 "${speed[@]}" --shapes 180m --rounds 3 --bf16
    part train-180m-f32 90 "${speed[@]}" --shapes 180m --rounds 3
    part train-850m-bf16 120 "${speed[@]}" --shapes 850m --rounds 3 --bf16
    part memory 90 "$here/speed" memory --device "$device" --json --shape 180m --steps 500
fi
for context in 2048 4096; do
    part memory-$context 120 "$here/speed" memory --device "$device" --json --shape context-$context --steps 2
done
part suite-nn 300 bash -c 'suite nn nn'
part suite-train 300 bash -c 'suite models train train::backends'
part command-line 200 bash -c command_line
part suite-lm 300 bash -c 'suite models lm lm::'
part suite-vit 300 bash -c 'suite models vit vit::'
[ -n "$quick" ] || part train-850m-f32 120 "${speed[@]}" --shapes 850m --rounds 3
echo "$out/gpu.json" >&2
