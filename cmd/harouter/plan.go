package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"harouter/balancer"
	"harouter/ha"
	"harouter/ha/config"
	"harouter/ha/links"
)

// situation is what `plan` is asked to suppose.
type situation struct {
	role string
	down []string
}

func newPlan(c *common) *cobra.Command {
	var at situation
	cmd := &cobra.Command{
		Use: "plan", Short: "print what the daemon would set: sysctl, ip and nft commands as a script", Args: noArgs,
		Long: "Prints the whole state that the file stands for, as a script that gives it to a machine that has\n" +
			"none of it: sysctls, routing tables and rules, the nft table with the rules of nft.d. Nothing is\n" +
			"changed, no daemon and no rights are needed. Where this machine is the node, its own addresses and\n" +
			"gateways that it found count as they are now; for another node the script supposes that its devices\n" +
			"have none.\n" +
			"The virtual addresses themselves are not part of it: the election moves them.",
		Example: "  harouter plan | less\n  harouter plan --down cable > b; harouter plan > a; diff a b\n  harouter plan --node r2 --role backup",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := load(c)
			if err != nil {
				return err
			}
			text, err := s.plan(at, time.Now())
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text, snippetScript(c.config, s.isHere()))
			return err
		},
	}
	cmd.Flags().StringVar(&at.role, "role", "master", "`ROLE` of the node: master or backup")
	cmd.Flags().StringSliceVar(&at.down, "down", nil, "`NAME` of an uplink that is down (may be given again; all others are up)")
	return cmd
}

// plan is the script of this node in a situation.
func (s *settings) plan(at situation, now time.Time) (string, error) {
	here := s.isHere()
	plan, err := s.planOf(at, here, now)
	if err != nil {
		return "", err
	}
	about := fmt.Sprintf("# %s of cluster %s as %s", s.node, s.file.Cluster, at.role)
	if len(at.down) > 0 {
		about += ", down: " + strings.Join(at.down, ", ")
	}
	if !here {
		about += "\n# This machine is not " + s.node + ": its devices are supposed to have no addresses of their own."
		for _, u := range s.file.Uplinks {
			if u.Gateway.Kind == config.GatewayAuto || u.Gateway.Kind == config.GatewayDHCP {
				about += fmt.Sprintf("\n# The gateway of %s is found on the node: the way over it lacks here.", u.Name)
			}
		}
	}
	first, rest, _ := strings.Cut(plan.String(), "\n")
	return first + "\n" + about + "\n" + rest, nil
}

// planOf is what the daemon would set in a situation; here says that this machine
// is the node.
func (s *settings) planOf(at situation, here bool, now time.Time) (balancer.Plan, error) {
	if at.role != "master" && at.role != "backup" {
		return balancer.Plan{}, wrongInput{fmt.Errorf("--role %q is not understood; allowed: master or backup", at.role)}
	}
	var names []string
	for _, u := range s.file.Uplinks {
		names = append(names, u.Name)
	}
	for _, name := range at.down {
		if !slices.Contains(names, name) {
			return balancer.Plan{}, wrongInput{fmt.Errorf("--down %s: there is no such uplink%s; there are: %s", name, config.DidYouMean(name, names), strings.Join(names, ", "))}
		}
	}
	cfg, err := s.balancer()
	if err != nil {
		return balancer.Plan{}, err
	}
	var found ha.Links
	if here {
		if found, err = links.Read(s.devices(), s.auto()); err != nil {
			return balancer.Plan{}, err
		}
	} else {
		found.Gateways = map[string]netip.Addr{}
		for name, line := range s.auto() {
			if line.Point {
				found.Gateways[name] = netip.IPv4Unspecified()
			}
		}
	}
	return balancer.Build(cfg, s.suppose(at, cfg, found, now))
}

// isHere tells whether this machine has an address of the node.
func (s *settings) isHere() bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && slices.Contains(s.self().Addresses, p.Addr().Unmap())
	})
}

// suppose is what the daemon would know in a situation, with what was found on
// the devices.
func (s *settings) suppose(at situation, cfg balancer.Config, found ha.Links, now time.Time) balancer.Input {
	master := at.role == "master"
	in := balancer.Input{
		Usable: map[string]bool{}, Verdicts: map[string]balancer.Verdict{}, Active: master, Holding: master,
		Own: map[string][]netip.Addr{}, OwnLan: map[string][]netip.Prefix{}, Gateways: found.Gateways, Closed: cfg.Closed(now),
	}
	for _, u := range cfg.Uplinks {
		in.Usable[u.Name], in.Verdicts[u.Name] = true, balancer.Up
		if slices.Contains(at.down, u.Name) {
			in.Usable[u.Name], in.Verdicts[u.Name] = false, balancer.Down
		}
		for _, p := range cfg.OwnOn(found.Devices[u.Device].Addresses) {
			in.Own[u.Name] = append(in.Own[u.Name], p.Addr())
		}
	}
	for _, l := range cfg.Lans {
		if own := cfg.OwnOn(found.Devices[l.Device].Addresses); len(own) > 0 {
			in.OwnLan[l.Name] = own
		}
	}
	if master {
		return in
	}
	var best uint8
	for _, n := range s.file.Nodes {
		i := slices.IndexFunc(n.Addresses, netip.Addr.Is4)
		if n.Name != s.node && n.Priority > best && i >= 0 {
			best, in.Master = n.Priority, n.Addresses[i]
		}
	}
	return in
}
