# Sourced by the other scripts: makes the virtual environment once, and again when pyproject.toml
# changes. Usage: . scripts/venv.sh EXTRA (demo, docs, test or dev)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extra=${1:-test}
venv=${DV_VENV:-.venv}
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: Python 3.11 or newer is needed; name one with PYTHON=/path/to/python" >&2
  exit 3
}
# The extras that hold this one: pyproject.toml says that dev and bench hold test, and test holds demo and docs.
case $extra in
demo) holders="demo test bench dev" ;;
test) holders="test bench dev" ;;
docs) holders="docs test bench dev" ;;
*) holders=$extra ;;
esac
installed=no
for holder in $holders; do
  stamp="$venv/.installed-$holder"
  if [ -e "$stamp" ] && [ ! pyproject.toml -nt "$stamp" ]; then
    installed=yes
  fi
done
if [ $installed = no ]; then
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extra]"
  touch "$venv/.installed-$extra"
fi
# The activated environment is what the tests' subprocesses find on PATH.
PATH="$(cd "$venv/bin" && pwd):$PATH"
export PATH
