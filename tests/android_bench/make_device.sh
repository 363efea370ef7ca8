#!/bin/sh
# Makes .device: a Debian with the real adbd and sshd, on which the tests run as on a phone. Needs root, a network and
# debootstrap; the tests that want it skip without it.
set -eu
cd "$(dirname "$0")/../.."
[ -d .device ] && exit 0
rm -rf .device.part
# The mirror that this machine installs from, unless another is named.
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/*$' | sort -u | head -n 1)}
debootstrap --variant=minbase --include=adbd,openssh-server,procps trixie .device.part "$mirror"
rm -rf .device.part/var/cache/apt/archives/*.deb .device.part/var/lib/apt/lists/*
mv .device.part .device
