#!/bin/sh
# Builds bin/deb/harouter_VERSION_ARCH.deb for one architecture (amd64, arm64,
# armhf) with dpkg-deb. The same sources give the same bytes. COMPRESSION=gzip is
# quicker than xz and makes a larger file.
set -eu

arch=$1
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/deploy/debian
: "${VERSION:?}" "${LDFLAGS:?}" "${GO:=go}"

case $arch in
amd64) export GOARCH=amd64 ;;
arm64) export GOARCH=arm64 ;;
armhf) export GOARCH=arm GOARM=7 ;;
*)
	echo "build.sh: no architecture $arch; allowed: amd64, arm64, armhf" >&2
	exit 2
	;;
esac

# A Debian version begins with a digit, and a tag may begin with v. What has no
# tag yet counts its commits, so that the later one is the newer package.
epoch=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || date -u -d "${DATE:-2000-01-01}" +%s)}
export SOURCE_DATE_EPOCH="$epoch"
if [ -z "${DEB_VERSION:-}" ]; then
	DEB_VERSION=$(echo "${VERSION#v}" | sed 's/-dirty$/+dirty/; s/-/+/g')
	case $DEB_VERSION in
	[0-9]*.*) ;;
	*) DEB_VERSION=0~$(git -C "$top" rev-list --count HEAD 2>/dev/null || echo 0)+git$DEB_VERSION ;;
	esac
fi

root=$top/bin/deb/$arch
rm -rf "$root"
mkdir -p "$root/DEBIAN"
(cd "$top" && "$GO" build -trimpath -buildvcs=false -ldflags "$LDFLAGS" -o "bin/deb/harouter-$arch" ./cmd/harouter)
PROGRAM=$top/bin/deb/harouter-$arch NATIVE=$top/bin/harouter DESTDIR=$root SBINDIR=/usr/sbin SYSCONFDIR=/etc \
	SHAREDIR=/usr/share ZSHDIR=/usr/share/zsh/vendor-completions LIBDIR=/usr/lib UNITDIR=/lib/systemd/system INIT=systemd sh "$top/deploy/install.sh"
rm "$top/bin/deb/harouter-$arch"

install -D -m 0644 "$top/deploy/default" "$root/etc/default/harouter"
doc=$root/usr/share/doc/harouter
install -m 0644 "$here/copyright" "$doc/copyright"
# What the linked modules ask for: their notices go with the program.
(cd "$top" && "$GO" list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/harouter) |
	LC_ALL=C sort -u | while read -r module version dir; do
	found=$(find "$dir" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'patents*' \) | LC_ALL=C sort)
	if [ -z "$found" ]; then
		echo "build.sh: no license in $dir, of $module" >&2
		exit 1
	fi
	for file in $found; do
		printf '==== %s %s: %s\n\n' "$module" "$version" "${file##*/}"
		cat "$file"
		echo
	done
done >"$doc/notices"
gzip -9n "$doc/notices"
chmod 0644 "$doc/notices.gz"
mkdir -p "$root/usr/share/lintian/overrides"
install -m 0644 "$here/lintian-overrides" "$root/usr/share/lintian/overrides/harouter"
printf 'harouter (%s) unstable; urgency=medium\n\n  * Built from commit %s.\n\n -- %s  %s\n' "$DEB_VERSION" "$VERSION" \
	"$(sed -n 's/^Maintainer: //p' "$here/control")" "$(LC_ALL=C date -u -R -d "@$epoch")" | gzip -9n >"$doc/changelog.gz"
chmod 0644 "$doc/changelog.gz"

size=$(du -sk --exclude=DEBIAN "$root" | cut -f1)
sed "s/@VERSION@/$DEB_VERSION/; s/@ARCH@/$arch/; s/@SIZE@/$size/" "$here/control" >"$root/DEBIAN/control"
(cd "$root" && find etc -type f | sort | sed 's|^|/|') >"$root/DEBIAN/conffiles"
for script in preinst postinst prerm postrm; do
	install -m 0755 "$here/$script" "$root/DEBIAN/$script"
done
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort | xargs md5sum) >"$root/DEBIAN/md5sums"
find "$root" -exec touch -h -d "@$epoch" {} +
dpkg-deb --root-owner-group -Z"${COMPRESSION:-xz}" --build "$root" "$top/bin/deb/harouter_${DEB_VERSION}_$arch.deb" >/dev/null
rm -rf "$root"
echo "bin/deb/harouter_${DEB_VERSION}_$arch.deb"
