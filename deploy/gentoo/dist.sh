#!/bin/sh
# Makes bin/dist/harouter-VERSION.tar.xz and harouter-VERSION-deps.tar.xz (all
# modules, as go-module.eclass unpacks them) of the present commit.
set -eu

version=${1:?dist.sh needs a version}
top=$(cd "$(dirname "$0")/../.." && pwd)
out=$top/bin/dist
work=$(mktemp -d)
# The module cache is read-only.
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

mkdir -p "$out"
git -C "$top" archive --prefix="harouter-$version/" HEAD | xz -T0 >"$out/harouter-$version.tar.xz"
cp "$top/go.mod" "$top/go.sum" "$work"
cd "$work"
GOFLAGS=-modcacherw GOMODCACHE=$work/go-mod "${GO:-go}" mod download
rm -rf "$work/go-mod/cache/vcs" "$work/go-mod/cache/download/sumdb"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - go-mod | xz -T0 >"$out/harouter-$version-deps.tar.xz"
echo "$out/harouter-$version.tar.xz"
echo "$out/harouter-$version-deps.tar.xz"
