#!/bin/sh
# boot.sh LOWER DIR NAME GROUP: boots systemd of the Debian root LOWER, in the
# network namespace that this runs in, as the host NAME and in the control group
# GROUP. What it writes goes to DIR. Without NAME it removes the group of one that ended.
set -eu

lower=$1 dir=$2 name=$3 group=$4
mount --make-rprivate /
mkdir -p "$dir/upper" "$dir/work" "$dir/root" "$dir/cgroup"
mount -t cgroup2 none "$dir/cgroup"
if [ -z "$name" ]; then
	find "$dir/cgroup/$group" -depth -type d -exec rmdir {} +
	exit
fi
mkdir -p "$dir/cgroup/$group"
echo $$ >"$dir/cgroup/$group/cgroup.procs"
mount -t overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/root"
# shellcheck disable=SC2016 # for the inner shell
exec unshare --cgroup --pid --fork --kill-child --uts --ipc --mount sh -euc '
cd "$1"
hostname "$2"
mount -t proc proc proc
# Only the sysctls of its own network are its own.
mount --bind proc/sys/net mnt
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --move mnt proc/sys/net
mount -t sysfs sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mount -o remount,bind,ro sys
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for n in null zero full random urandom tty; do
	touch "dev/$n"
	mount --bind "/dev/$n" "dev/$n"
done
mkdir dev/pts dev/shm old
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
pivot_root . old
umount -l /old
rmdir /old
exec env -i container=netlab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog /lib/systemd/systemd --log-target=console --show-status=0 --unit=multi-user.target </dev/null
' sh "$dir/root" "$name"
