#!/bin/sh
# Puts the program and what belongs to it below $DESTDIR; called by make install
# and deploy/debian/build.sh. With "remove" it takes the same files away again.
set -eu

: "${PROGRAM:?}" "${SBINDIR:?}" "${SYSCONFDIR:?}" "${SHAREDIR:?}" "${LIBDIR:?}" "${UNITDIR:?}"
: "${DESTDIR:=}" "${INIT:=systemd openrc}" "${NATIVE:=$PROGRAM}" # NATIVE runs here
: "${ZSHDIR:=$SHAREDIR/zsh/site-functions}"
here=$(dirname "$0")
verb=${1:-install}
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

# put MODE SOURCE TARGET
put() {
	if [ "$verb" = remove ]; then
		rm -f "$DESTDIR$3"
	else
		install -D -m "$1" "$2" "$DESTDIR$3"
	fi
}

# placed FILE: with the path of the program where this installation has it.
placed() {
	sed "s|/usr/local/sbin/harouter|$SBINDIR/harouter|g" "$1" >"$made/placed"
	echo "$made/placed"
}

put 0755 "$PROGRAM" "$SBINDIR/harouter"

mkdir "$made/man"
"$NATIVE" man "$made/man"
for page in "$made"/man/*; do
	gzip -9n "$page"
	put 0644 "$page.gz" "$SHAREDIR/man/man${page##*.}/${page##*/}.gz"
done
"$NATIVE" completion bash >"$made/bash"
"$NATIVE" completion zsh >"$made/zsh"
"$NATIVE" completion fish >"$made/fish"
put 0644 "$made/bash" "$SHAREDIR/bash-completion/completions/harouter"
put 0644 "$made/zsh" "$ZSHDIR/_harouter"
put 0644 "$made/fish" "$SHAREDIR/fish/vendor_completions.d/harouter.fish"

doc=$SHAREDIR/doc/harouter
put 0644 "$here/../README.md" "$doc/README.md"
for sample in "$here"/samples/*.yaml; do
	put 0644 "$sample" "$doc/examples/${sample##*/}"
done
for file in README.md dnsmasq.conf; do
	put 0644 "$here/samples/dnsmasq/$file" "$doc/examples/dnsmasq/$file"
done
put 0755 "$here/samples/dnsmasq/copy-leases" "$doc/examples/dnsmasq/copy-leases"
put 0644 "$here/modules-load.conf" "$LIBDIR/modules-load.d/harouter.conf"
put 0644 "$here/sysctl.conf" "$LIBDIR/sysctl.d/50-harouter.conf"

for init in $INIT; do
	case $init in
	systemd)
		put 0644 "$(placed "$here/systemd/harouter.service")" "$UNITDIR/harouter.service"
		put 0644 "$here/systemd/networkd.conf" "$LIBDIR/systemd/networkd.conf.d/10-harouter.conf"
		put 0644 "$here/systemd/NetworkManager.conf" "$LIBDIR/NetworkManager/conf.d/10-harouter.conf"
		put 0644 "$here/systemd/keep-addresses.conf" "$doc/examples/keep-addresses.conf"
		;;
	openrc)
		put 0755 "$(placed "$here/openrc/harouter")" "$SYSCONFDIR/init.d/harouter"
		put 0644 "$here/openrc/harouter.confd" "$SYSCONFDIR/conf.d/harouter"
		;;
	*)
		echo "install.sh: INIT=$init is not known; allowed: systemd, openrc" >&2
		exit 2
		;;
	esac
done
if [ "$verb" != remove ]; then
	install -d -m 0755 "$DESTDIR$SYSCONFDIR/harouter" "$DESTDIR$SYSCONFDIR/harouter/hooks"
fi
