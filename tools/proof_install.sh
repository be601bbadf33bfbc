#!/usr/bin/env bash
# Build the wheel, install it into a new environment without extras, and use it there: `make proof-install`.
# Usage: tools/proof_install.sh PYTHON
set -euo pipefail
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/env"
"$folder/env/bin/pip" wheel --quiet --no-deps --wheel-dir "$folder" "$root"
before=$(du -sm "$folder/env" | cut -f1) start=$SECONDS
"$folder/env/bin/pip" install --quiet --constraint "$root/constraints.txt" "$folder"/ladder_lm-*.whl
echo "installed: $(($(du -sm "$folder/env" | cut -f1) - before)) MB in $((SECONDS - start)) s"
cd "$folder"
"$folder/env/bin/pip" check
"$folder/env/bin/ladder" allocate --published hoffmann --budget 1e22
"$folder/env/bin/python" -c "
import fitting, numpy as np
N = np.geomspace(1e7, 3e9, 12); D = N * np.tile([5, 20, 100], 4)
print(fitting.fit(N=N, D=D, y=1.8 + 480 / N**0.35 + 2000 / D**0.37, law='chinchilla', resamples=100))"
