#!/bin/sh
# Runs systemd-networkd in a container as on a machine: it believes that there is
# no udev where /sys is read-only, and then does not look at what others made before
# it started. What udev would have noted about each device is written here.
set -eu

mkdir -p /run/udev/data
for index in /sys/class/net/*/ifindex; do
	echo I:1 >"/run/udev/data/n$(cat "$index")"
done
chown -R systemd-network: /run/systemd/netif
caps=+net_admin,+net_raw,+net_bind_service,+net_broadcast
# shellcheck disable=SC2016 # for the inner shell
exec unshare --mount --propagation private sh -c 'mount -o remount,bind,rw /sys && exec "$@"' sh \
	setpriv --reuid systemd-network --regid systemd-network --clear-groups \
	--inh-caps "$caps" --ambient-caps "$caps" /lib/systemd/systemd-networkd
