#!/bin/sh
# Installs the Debian packages named as arguments, if any of them is missing. Services that come with them are
# left stopped: the tests start their own, on free ports.
set -eu

missing=
for package in "$@"; do
    status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "installing$missing"
root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "missing:$missing; install them as root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    root=sudo
fi
case "$missing " in
*" cloud-init "*)
    # Only its checks are wanted: at the next start it would set up this machine anew.
    $root mkdir -p /etc/cloud
    $root touch /etc/cloud/cloud-init.disabled
    ;;
esac
$root apt-get update -q
# shellcheck disable=SC2086 # one word per package
$root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
if [ -d /run/systemd/system ]; then
    for service in mosquitto postgresql redis-server; do
        case "$missing " in
        *" $service "*) $root systemctl disable --now "$service" ;;
        esac
    done
fi
