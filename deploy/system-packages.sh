#!/bin/sh
# Installs the system libraries that headless rendering and the cameras need, or says how to.
set -eu
missing=""
need() { # package, library file
    ldconfig -p 2>/dev/null | grep -q "$2" || missing="$missing $1"
}
PATH="$PATH:/sbin:/usr/sbin"
need libegl1 libEGL.so.1
need libgl1 libGL.so.1
need libusb-1.0-0 libusb-1.0.so.0
[ -z "$missing" ] && exit 0
command="apt-get update && apt-get install --yes --no-install-recommends$missing"
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing system packages:$missing"
    DEBIAN_FRONTEND=noninteractive sh -c "$command" >/dev/null
else
    echo "These system packages are missing:$missing" >&2
    echo "Install them, then run make again:  sudo sh -c '$command'" >&2
    exit 1
fi
