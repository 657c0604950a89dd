# harouter: make demo and make test are all that a newcomer needs.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.1
VERSION    := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT     := $(shell git rev-parse HEAD 2>/dev/null)
# Of the commit, not of the build: the same sources give the same bytes.
DATE       := $(shell git log -1 --format=%cs 2>/dev/null)
# What demo and test need beside Go: command and Debian package.
TOOLS       = ip:iproute2 nft:nftables conntrack:conntrack sysctl:procps prlimit:util-linux
BENCH_TOOLS = keepalived:keepalived conntrackd:conntrackd iptables:iptables iperf3:iperf3

INSTALL_TOOLS = ip:iproute2 debootstrap:debootstrap dpkg-deb:dpkg lintian:lintian shellcheck:shellcheck systemd-analyze:systemd man:man-db
SOAK       ?= 5m

export CGO_ENABLED = 0
LDFLAGS = -s -w -buildid= -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)
GO = go
# go test, and what failed once more alone.
AGAIN = $(GO) run -buildvcs=false ./test/again

# Where make install puts things; packages set DESTDIR and other directories.
PREFIX     ?= /usr/local
SBINDIR    ?= $(PREFIX)/sbin
SYSCONFDIR ?= /etc
SHAREDIR   ?= $(PREFIX)/share
LIBDIR     ?= $(PREFIX)/lib
UNITDIR    ?= $(LIBDIR)/systemd/system
INIT       ?= systemd openrc
# The architectures of the Debian package.
ARCHES     ?= amd64 arm64 armhf

.PHONY: help build install uninstall deb dist test-install demo test interop peers soak simulate check fuzz bench tools bench-tools root clean

help:           ## show the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || grep '##' Makefile

build:          ## build bin/harouter, one static binary
	@$(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/harouter ./cmd/harouter

install: build  ## install into PREFIX=/usr/local, below DESTDIR: binary, manual, completions, service files
	@PROGRAM='$(CURDIR)/bin/harouter' DESTDIR='$(DESTDIR)' SBINDIR='$(SBINDIR)' SYSCONFDIR='$(SYSCONFDIR)' SHAREDIR='$(SHAREDIR)' \
		LIBDIR='$(LIBDIR)' UNITDIR='$(UNITDIR)' INIT='$(INIT)' sh deploy/install.sh

uninstall:      ## remove what make install put there, but not /etc/harouter
	@PROGRAM='$(CURDIR)/bin/harouter' DESTDIR='$(DESTDIR)' SBINDIR='$(SBINDIR)' SYSCONFDIR='$(SYSCONFDIR)' SHAREDIR='$(SHAREDIR)' \
		LIBDIR='$(LIBDIR)' UNITDIR='$(UNITDIR)' INIT='$(INIT)' sh deploy/install.sh remove

deb: build      ## Debian packages in bin/deb (ARCHES="amd64 arm64 armhf"; needs dpkg-deb)
	$(call install,dpkg-deb:dpkg gzip:gzip)
	@for a in $(ARCHES); do VERSION='$(VERSION)' LDFLAGS='$(LDFLAGS)' GO='$(GO)' sh deploy/debian/build.sh $$a || exit 1; done

dist:           ## sources and modules as the Gentoo ebuild wants them, in bin/dist
	@sh deploy/gentoo/dist.sh '$(or $(DIST_VERSION),$(patsubst v%,%,$(VERSION)))'

test-install: root   ## package, unit and scripts: lintian, shellcheck, and two Debian roots that install and upgrade it (3 min)
	$(call install,$(INSTALL_TOOLS))
	$(GO) test -timeout 10m -count 1 -v ./test/install

demo: root tools build   ## two routers, two ISPs, and what happens when they fail (KEEP=1 leaves it standing)
	@$(GO) run -buildvcs=false ./test/demo -binary bin/harouter $(if $(KEEP),-keep)

test: root tools build   ## all tests, with real packets in network namespaces
	$(AGAIN) -p 4 -timeout 5m $$($(GO) list ./... | grep -v -e /test/integration -e /test/install -e /test/interop -e /test/soak)
	HAROUTER_BINARY=$(CURDIR)/bin/harouter $(AGAIN) -timeout 9m -parallel 3 -count 1 ./test/integration/...

interop: root tools build peers   ## elections against the real keepalived and FRR (1 min)
	HAROUTER_BINARY=$(CURDIR)/bin/harouter $(GO) test -timeout 5m -parallel 64 -count 1 ./test/interop

soak: root tools build simulate   ## what needs real minutes: silent connections, calm, an ISP that flaps, moves without end, and simulated clusters (SOAK=5m each)
	HAROUTER_BINARY=$(CURDIR)/bin/harouter $(GO) test -timeout 20m -count 1 -v ./test/soak

simulate:       ## other seeds of the simulators than make test has, SOAK=5m for each of the two
	HAROUTER_SOAK=$(SOAK) $(GO) test -timeout 0 -count 1 -v -run '^TestElection$$' ./vrrp
	HAROUTER_SOAK=$(SOAK) $(GO) test -timeout 0 -count 1 -v -run '^TestChaos(Sync|OneHolder)?$$' ./ha

check:          ## gofmt, vet (for machines of 32 bits too), staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not in gofmt's form:"; gofmt -l .; exit 1; }
	$(GO) vet -buildvcs=false ./...
	GOARCH=arm $(GO) vet -buildvcs=false ./...
	$(GO) run $(STATICCHECK) ./...

fuzz:           ## each fuzz test for 20 s
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
		$(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 20s $$p || exit 1; done; done

bench: root tools bench-tools build   ## figures, beside keepalived and conntrackd in the same site (ONLY=replication for one, RUNS=3)
	HAROUTER_BINARY=$(CURDIR)/bin/harouter $(GO) run -buildvcs=false ./test/bench $(if $(ONLY),-only '$(ONLY)') $(if $(RUNS),-runs $(RUNS))

root:
	@test "$$(id -u)" = 0 || { echo "this needs root, for network namespaces: run it with sudo"; exit 1; }

define install
	@missing=""; for t in $(1); do PATH=$$PATH:/usr/sbin:/sbin command -v $${t%%:*} >/dev/null || missing="$$missing $${t##*:}"; done; \
	if [ -n "$$missing" ]; then \
		command -v apt-get >/dev/null || { echo "please install:$$missing"; exit 1; }; \
		echo "installing with apt:$$missing"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

# The routers of others for the tests of interop: unpacked, not installed, so that
# nothing of the machine changes and no service starts.
PEERS = $(CURDIR)/bin/peers

peers: root
	@if [ ! -x $(PEERS)/usr/sbin/keepalived ] || [ ! -x $(PEERS)/usr/lib/frr/vrrpd ]; then \
		command -v apt-get >/dev/null || { echo "please unpack keepalived and frr (Debian 12) into bin/peers"; exit 1; }; \
		echo "unpacking keepalived and frr into bin/peers"; \
		rm -rf $(PEERS); mkdir -p $(PEERS)/deb/partial; \
		get() { apt-get install -y -qq --download-only --no-install-recommends --reinstall \
			-o Dir::Cache::archives=$(PEERS)/deb -o Debug::NoLocking=1 keepalived frr >/dev/null; }; \
		get || { apt-get update -qq && get; } || exit 1; \
		for d in $(PEERS)/deb/*.deb; do dpkg -x $$d $(PEERS) || exit 1; done; \
		rm -rf $(PEERS)/deb; \
	fi

tools:
	$(call install,$(TOOLS))

bench-tools:
	$(call install,$(BENCH_TOOLS))

clean:          ## remove what was built
	rm -rf bin
