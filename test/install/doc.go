// Package install proves what deploy/ holds: the unit for systemd, the scripts,
// the Debian package. Two Debian roots boot systemd in the routers of a netlab
// site; the package is installed in them with dpkg, set up by init, token and
// join, upgraded under traffic and purged. In others systemd-networkd and
// NetworkManager set up the devices beside it.
//
//	make test-install    # installs what it needs, 3 minutes
//
// The Debian root is built once with debootstrap, in bin/debian. Nothing of the
// machine itself is changed: the containers see its sysctls read-only, but for
// those of their own network namespace. Nothing imports it.
package install
