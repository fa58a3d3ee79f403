#!/bin/sh
# The browser tests drive the system's Chromium. Where there is none, install it from the system's packages.
set -eu
for name in chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done
echo "No Chromium found; installing it from the system's packages ..."
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
if command -v apt-get >/dev/null 2>&1; then
    $as_root apt-get update -qq
    export DEBIAN_FRONTEND=noninteractive
    $as_root apt-get install -y -qq --no-install-recommends chromium-headless-shell >/dev/null 2>&1 ||
        $as_root apt-get install -y -qq --no-install-recommends chromium >/dev/null
elif command -v dnf >/dev/null 2>&1; then
    $as_root dnf install -y -q chromium
elif command -v brew >/dev/null 2>&1; then
    brew install --quiet --cask chromium
else
    echo "Please install Chromium or Chrome and run this again." >&2
    exit 1
fi
