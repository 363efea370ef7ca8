#!/bin/sh
# Creates .emulator: a qemu that supports plugins, and the plugin that counts. Needs Debian's apt, a network, gcc, ninja,
# pkg-config and GLib's headers (`make emulator` installs them), and writes only to .emulator. Debian's own qemu-user is
# linked statically and does not support plugins.
# Usage: make_emulator.sh PYTHON, after make.sh
set -eu
cd "$(dirname "$0")/../.."
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$PWD/.emulator/work

# fetch: downloads the source of trixie's qemu; apt verifies its signature.
fetch() {
    use_trixie "$work/apt" deb-src "$(dpkg --print-architecture)"
    (cd "$work" && apt-get -qq source --download-only qemu)
    unset APT_CONFIG
    mkdir -p "$work/source" "$work/build"
    tar -xf "$work"/qemu_*.orig.tar.xz -C "$work/source" --strip-components=1
}

# build: builds qemu, linked dynamically, with only what a Linux program needs.
build() {
    "$python" -m venv "$work/tools"
    "$work/tools/bin/pip" install --quiet --disable-pip-version-check 'meson==1.5.0' 'pycotap==1.3.1'
    cd "$work/build"
    PATH=$work/tools/bin:$PATH ../source/configure --python="$work/tools/bin/python" --target-list=aarch64-linux-user \
        --without-default-features --disable-system --disable-tools --disable-docs --disable-install-blobs \
        --enable-plugins >configure.log || { tail -n 20 configure.log; exit 1; }
    ninja --quiet qemu-aarch64
    cd ../../..
    strip -o .emulator/qemu-aarch64.part .emulator/work/build/qemu-aarch64
    cp .emulator/work/source/include/qemu/qemu-plugin.h .emulator/
    mv .emulator/qemu-aarch64.part .emulator/qemu-aarch64
}

if [ ! -x .emulator/qemu-aarch64 ]; then
    . tests/arm/debian.sh
    rm -rf .emulator
    mkdir -p "$work"
    fetch
    build
    rm -rf "$work" # 1 GB
fi
gcc -O2 -Wall -shared -fPIC -I.emulator $(pkg-config --cflags glib-2.0) -o .emulator/counts.so.part \
    android_bench/emulator_plugin.c
mv .emulator/counts.so.part .emulator/counts.so
ln -sfn ../.arm/aarch64 .emulator/root
ln -sfn ../.arm/packages .emulator/packages
qemu=$(.emulator/qemu-aarch64 --version | sed -n 's/.*version \([0-9.]*\).*/\1/p')
echo "{\"qemu\": \"$qemu\", \"litert\": \"$(sed 's/.*==//' .arm/made)\"}" >.emulator/versions.json
