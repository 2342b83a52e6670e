#!/bin/sh
# What the container tests need where no Docker runs: buildah and podman, and debootstrap for a stand-in of the base image.
set -eu

if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "Install buildah, podman, runc and debootstrap as this system does it; only Debian is known here, as root." >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends buildah podman runc debootstrap netavark aardvark-dns iptables
