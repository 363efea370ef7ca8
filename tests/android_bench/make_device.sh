#!/bin/sh
# Makes .device: a Debian with the real adbd and sshd, on which the tests run as on a phone. Needs root, a network and
# debootstrap; the tests that want it skip without it.
set -eu
cd "$(dirname "$0")/../.."
[ -d .device ] && exit 0
. tests/arm/debian.sh
rm -rf .device.part
debootstrap --variant=minbase --include=adbd,openssh-server,procps trixie .device.part "$mirror"
rm -rf .device.part/var/cache/apt/archives/*.deb .device.part/var/lib/apt/lists/*
mv .device.part .device
