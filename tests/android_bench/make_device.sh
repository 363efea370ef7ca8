#!/bin/sh
# Creates .device: a Debian with real adbd and sshd, which tests use as a phone. Needs root, a network and debootstrap.
# Tests that need it are skipped without it.
set -eu
cd "$(dirname "$0")/../.."
[ -d .device ] && exit 0
. tests/arm/debian.sh
rm -rf .device.part
debootstrap --variant=minbase --include=adbd,openssh-server,procps trixie .device.part "$mirror"
rm -rf .device.part/var/cache/apt/archives/*.deb .device.part/var/lib/apt/lists/*
mv .device.part .device
