#!/bin/sh
# Creates .arm: an aarch64 Python with LiteRT in .arm/aarch64, and qemu to run it in .arm/emulator. Needs Debian's apt
# and a network, and writes only to .arm. Uses trixie, since qemu before 10 crashes on LiteRT.
# Usage: make.sh PYTHON
set -eu
cd "$(dirname "$0")/../.."
wheel=$(sed -n 's/.*"\(ai-edge-litert==[^"]*\)".*/\1/p' pyproject.toml | head -n 1)
[ "$(cat .arm/made 2>/dev/null)" = "$wheel" ] && exit 0
. tests/arm/debian.sh
rm -rf .arm

# unpack FOLDER ARCHITECTURE PACKAGE...: unpacks packages and their dependencies.
unpack() {
    folder=$PWD/.arm/$1 apt=$PWD/.arm/apt-$2
    mkdir -p "$folder"
    use_trixie "$apt" deb "$2"
    shift 2
    apt-get -qq install --download-only "$@"
    unset APT_CONFIG
    for package in "$apt"/archives/*.deb; do dpkg-deb --extract "$package" "$folder"; done
    rm -rf "$apt"
}

unpack emulator "$(dpkg --print-architecture)" qemu-user
find .arm/emulator/usr/bin -type f ! -name qemu-aarch64 -delete # 400 MB of other processors
unpack aarch64 arm64 python3.13 libstdc++6
ln -s usr/lib .arm/aarch64/lib
# Wheels state their minimum libc; trixie's is newer than all of these.
platforms='--platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64'
"$1" -m pip install --quiet --target .arm/packages --python-version 3.13 --only-binary :all: $platforms "$wheel"
echo "$wheel" >.arm/made
