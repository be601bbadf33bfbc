#!/usr/bin/env bash
# Installs a headless Chromium and Playwright, which drives it, for the tests of the page. Usage: tools/browser.sh PYTHON
# In order: a Chromium of this machine; Playwright's own; Debian's (needs root). All else is in .cache/browser.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 folder=$PWD/.cache/browser
export PLAYWRIGHT_BROWSERS_PATH=$folder/browsers PYTHONPATH=$folder/lib

of_this_machine() { command -v chromium || command -v chromium-browser || command -v google-chrome || true; }

of_playwright() { find "$folder/browsers" -name headless_shell -o -name chrome-headless-shell 2>/dev/null | head -1; }

"$python" -m pip install --quiet --target "$folder/lib" --upgrade playwright==1.65.2
executable=$(of_this_machine)
if [ -z "$executable" ]; then
  timeout 120 "$python" -m playwright install --only-shell chromium >/dev/null 2>&1 || true
  executable=$(of_playwright)
fi
if [ -z "$executable" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >/dev/null
  executable=$(of_this_machine)
fi
[ -n "$executable" ] || { echo "no Chromium can be downloaded here; install one (as root: apt-get install chromium)"; exit 1; }
echo "$executable" >"$folder/executable"
"$executable" --version 2>/dev/null
