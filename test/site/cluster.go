package site

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
)

// Addresses of the standard pair.
var (
	LANAddress = netip.MustParseAddr("192.168.77.1")
	WAN1       = netip.MustParseAddr("203.0.113.10")
	WAN2       = netip.MustParseAddr("203.0.113.140")
	Server     = netip.MustParseAddr("198.51.100.1")
	Server2    = netip.MustParseAddr("198.51.100.2")
)

// Config is the standard file for a pair; tests change it by replacing text.
const Config = `cluster: home
nodes:
  r1: {address: 192.0.2.1, priority: 200}
  r2: {address: 192.0.2.2, priority: 150}
vrrp: {id: 51, advertise: 100ms, preempt_delay: 2s}
lans:
  - {name: office, device: lan0, virtual_addresses: [192.168.77.1/24]}
uplinks:
  - name: cable
    device: wan1
    gateway: 203.0.113.1
    virtual_addresses: [203.0.113.10/25]
    weight: 2
    probe: {targets: [198.51.100.1, 198.51.100.2], interval: 200ms, timeout: 200ms, fall: 3, rise: 5}
  - name: dsl
    device: wan2
    gateway: 203.0.113.129
    virtual_addresses: [203.0.113.140/25]
    weight: 1
    probe: {targets: [198.51.100.1, 198.51.100.2], interval: 200ms, timeout: 200ms, fall: 3, rise: 5}
`

// Cluster is harouter on the routers of a site.
type Cluster struct {
	*netlab.Site
	Binary  string
	Daemons map[string]*netlab.Process
}

// Binary finds the program under test: $HAROUTER_BINARY, else bin/harouter of
// the repository.
func Binary() (string, error) {
	path := os.Getenv("HAROUTER_BINARY")
	if path == "" {
		dir, err := os.Getwd()
		if err != nil {
			return "", err
		}
		for ; ; dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				path = filepath.Join(dir, "bin", "harouter")
				break
			}
			if dir == "/" {
				return "", errors.New("find the program under test: set HAROUTER_BINARY")
			}
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run make build first", err)
	}
	return path, nil
}

// Install writes one configuration and key into every router.
func Install(s *netlab.Site, config string) (*Cluster, error) {
	binary, err := Binary()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Site: s, Binary: binary, Daemons: map[string]*netlab.Process{}}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	secret := base64.StdEncoding.EncodeToString(key) + "\n"
	for _, n := range s.Nodes() {
		if n.Kind != netlab.KindRouter {
			continue
		}
		if err := errors.Join(
			os.WriteFile(c.ConfigFile(n.Name), []byte(config), 0o644),
			os.WriteFile(filepath.Join(n.ConfigDir(), "cluster.key"), []byte(secret), 0o600),
		); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ConfigFile is a router's own copy of the configuration.
func (c *Cluster) ConfigFile(router string) string {
	return filepath.Join(c.Router(router).ConfigDir(), "harouter.yaml")
}

// Args are the flags that make commands on a router find its daemon.
func (c *Cluster) Args(router string, args ...string) []string {
	n := c.Router(router)
	return append([]string{c.Binary, "--config", c.ConfigFile(router), "--node", router,
		"--run-dir", n.RunDir(), "--state-dir", n.StateDir()}, args...)
}

// Run starts the daemon on routers.
func (c *Cluster) Run(routers ...string) error {
	for _, r := range routers {
		p, err := c.Router(r).Start("harouter", c.Args(r, "run")...)
		if err != nil {
			return err
		}
		c.Daemons[r] = p
	}
	return nil
}

// Command runs a command on a router and returns what it printed.
func (c *Cluster) Command(router string, args ...string) (string, error) {
	argv := c.Args(router, args...)
	return c.Router(router).Exec(argv...)
}

// Status asks a router's daemon.
func (c *Cluster) Status(router string) (ha.Status, error) {
	out, err := c.Command(router, "status", "--json")
	if err != nil {
		return ha.Status{}, err
	}
	var s ha.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return s, fmt.Errorf("status of %s: %w in %.200q", router, err, out)
	}
	return s, nil
}

// Wait asks a router's status until ok says yes.
func (c *Cluster) Wait(what, router string, within time.Duration, ok func(ha.Status) bool) error {
	var last ha.Status
	var failed error
	err := netlab.WaitFor(what, within, func() bool {
		last, failed = c.Status(router)
		return failed == nil && ok(last)
	})
	if err == nil {
		return nil
	}
	text, _ := json.Marshal(last)
	return fmt.Errorf("%w; %s says: %v %s", err, router, failed, text)
}

// Up starts the daemons and waits until the first named is master, all know it,
// and every uplink works.
func (c *Cluster) Up(routers ...string) error {
	if err := c.Run(routers...); err != nil {
		return err
	}
	for _, r := range routers {
		if err := c.Settled(r, routers[0], 15*time.Second); err != nil {
			return err
		}
	}
	return c.WaitHolder(LANAddress, routers[0], 5*time.Second)
}

// Settled waits until a router says that master is master, that all nodes it
// hears agree, and that every uplink is up.
func (c *Cluster) Settled(router, master string, within time.Duration) error {
	return c.Wait(master+" is master and all uplinks are up", router, within, func(s ha.Status) bool {
		for _, u := range s.Uplinks {
			if u.State.String() != "up" {
				return false
			}
		}
		return s.VRRP.Master == master && s.PlanHash != ""
	})
}

// Log is what a router's daemon wrote so far.
func (c *Cluster) Log(router string) string {
	p := c.Daemons[router]
	if p == nil {
		return ""
	}
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Replace is strings.Replace that complains if there is nothing to replace.
func Replace(config, old, text string) string {
	if !strings.Contains(config, old) {
		panic(fmt.Sprintf("the configuration has no %q", old))
	}
	return strings.ReplaceAll(config, old, text)
}
