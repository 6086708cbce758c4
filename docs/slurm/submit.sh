#!/usr/bin/env bash
# Every stage as a job that waits for those it needs:   bash docs/slurm/submit.sh [sbatch's options, as --gres=gpu:1]
set -euo pipefail
export PATH="$PWD/.venv/bin:$PATH"
mkdir -p .scratch
python -m stages check
edges=$(dvc dag --dot | sed -n 's/^"\([^"]*\)" -> "\([^"]*\)";*$/\1 \2/p')
declare -A job
for stage in $(tsort <<<"$edges"); do
    after=$(awk -v stage="$stage" '$2 == stage { print $1 }' <<<"$edges" | while read -r need; do printf ':%s' "${job[$need]}"; done)
    job[$stage]=$(sbatch --parsable --job-name "$stage" ${after:+--dependency=afterok$after} "$@" docs/slurm/stage.sbatch "$stage")
    echo "${job[$stage]} $stage"
done
