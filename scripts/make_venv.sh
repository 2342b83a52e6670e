#!/bin/sh
# Make the virtual environment $1 with $2, or, where $2 is empty, with the first Python here that is new enough.
set -eu

venv=$1
wanted=${2:-}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

python=
for candidate in ${wanted:-python3.11 python3.12 python3.13 python3}; do
    if new_enough "$candidate"; then
        python=$candidate
        break
    fi
done

if [ -z "$python" ]; then
    echo "Leeway needs Python 3.11 or newer; looked for: ${wanted:-python3.11, python3.12, python3.13, python3}." >&2
    echo "Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    echo "$python cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)." >&2
    exit 1
fi

echo "Making $venv with $("$python" --version)"
"$python" -m venv "$venv"
