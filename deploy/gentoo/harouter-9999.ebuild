# Rename to harouter-VERSION.ebuild in net-misc/harouter of an overlay, put the
# two archives of `make dist` into DISTDIR, then: ebuild ... manifest

EAPI=8

inherit go-module linux-info systemd

DESCRIPTION="Two Linux routers that behave as one"
HOMEPAGE="https://harouter.invalid/"
SRC_URI="${P}.tar.xz ${P}-deps.tar.xz"

LICENSE="all-rights-reserved"
SLOT="0"
KEYWORDS="~amd64 ~arm ~arm64"
IUSE="+systemd"
RESTRICT="fetch mirror bindist test" # its tests need root and network namespaces

BDEPEND=">=dev-lang/go-1.26"
RDEPEND="!systemd? ( sys-apps/openrc )"

# What it uses of the kernel; harouter doctor tries each of these for real.
CONFIG_CHECK="
	INET
	IP_ADVANCED_ROUTER
	IP_MULTICAST
	IP_MULTIPLE_TABLES
	IPV6
	PACKET
	NETFILTER_ADVANCED
	NETFILTER_NETLINK
	NF_CONNTRACK
	NF_CONNTRACK_EVENTS
	NF_CONNTRACK_MARK
	NF_CT_NETLINK
	NF_NAT
	NF_TABLES
	NF_TABLES_INET
	NFT_CT
	NFT_FIB_INET
	NFT_HASH
	NFT_LIMIT
	NFT_LOG
	NFT_MASQ
	NFT_NAT
	NFT_NUMGEN
	NFT_REJECT
	NFT_REJECT_INET
	~NETFILTER_NETLINK_QUEUE
	~NFT_QUEUE
	~NFT_SOCKET
	~XFRM
	~MACVLAN
	~NF_CONNTRACK_LABELS
	~NF_CONNTRACK_ZONES
"
ERROR_NF_CT_NETLINK="NF_CT_NETLINK: without it open connections do not survive a takeover."
ERROR_IP_MULTIPLE_TABLES="IP_MULTIPLE_TABLES: without it there is no balancing over several lines."
WARNING_NETFILTER_NETLINK_QUEUE="NETFILTER_NETLINK_QUEUE: needed for race: hold only."
WARNING_XFRM="XFRM: needed for IPsec only."
WARNING_NFT_QUEUE="NFT_QUEUE: needed for race: hold, unless NFT_COMPAT and NETFILTER_XT_TARGET_NFQUEUE are there."
WARNING_NFT_SOCKET="NFT_SOCKET: without it the first packets to a closed port of a virtual address are dropped."
WARNING_MACVLAN="MACVLAN: needed for virtual_mac only."

pkg_nofetch() {
	einfo "make dist, in the sources of harouter, makes"
	einfo "  ${P}.tar.xz and ${P}-deps.tar.xz"
	einfo "Put them into your DISTDIR."
}

src_compile() {
	ego build -trimpath -buildvcs=false -ldflags "-X main.version=${PV}" -o bin/harouter ./cmd/harouter
}

src_install() {
	local unitdir init
	unitdir=$(systemd_get_systemunitdir)
	init="openrc$(usex systemd ' systemd' '')"
	local -x PROGRAM="${S}/bin/harouter" DESTDIR="${D}" SBINDIR="${EPREFIX}/usr/sbin" \
		SYSCONFDIR="${EPREFIX}/etc" SHAREDIR="${EPREFIX}/usr/share" LIBDIR="${EPREFIX}/usr/lib" \
		ZSHDIR="${EPREFIX}/usr/share/zsh/site-functions" UNITDIR="${unitdir}" INIT="${init}"
	sh deploy/install.sh || die
	# Portage compresses what it likes itself.
	find "${ED}/usr/share/man" -name '*.gz' -exec gunzip {} + || die
	mv "${ED}/usr/share/doc/harouter" "${ED}/usr/share/doc/${PF}" || die
	keepdir /etc/harouter/hooks
}

pkg_preinst() {
	local harouter="${EROOT}/usr/sbin/harouter" said tries=5
	# On a backup failover would bring the role here.
	if [[ -z ${REPLACING_VERSIONS} || ! -x ${harouter} ]] ||
		! "${harouter}" status --json 2>/dev/null | grep -q '^  "role": "master"'; then
		return
	fi
	# One that is too busy to take over at once is asked again.
	until said=$("${harouter}" failover 2>&1); do
		if (( --tries == 0 )); then
			echo "${said}"
			return
		fi
		sleep 0.2
	done
	echo "${said}"
	elog "This router handed over to another one. When you have restarted harouter"
	elog "(rc-service harouter restart), harouter failover --auto brings it back."
}

pkg_postinst() {
	if [[ -z ${REPLACING_VERSIONS} ]]; then
		elog "On the first router: harouter init. On the others the line that harouter"
		elog "token prints. harouter doctor looks at the machine."
	fi
}
