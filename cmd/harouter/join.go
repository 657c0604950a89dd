package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"harouter/ha/config"
	"harouter/ha/join"
)

// joinFlags are those of the verb join.
type joinFlags struct {
	token, tokenFile string
	addresses        []string
	priority         int
	devices          []string
	force            bool
}

func newJoin(c *common) *cobra.Command {
	var f joinFlags
	cmd := &cobra.Command{
		Use: "join ADDRESS[:PORT]", Short: "make this machine one more router of a cluster",
		Long: "Fetches configuration file and key from the running router at ADDRESS with a ticket of\n" +
			"harouter token, and writes both; no daemon need run here. Without --token and --token-file the\n" +
			"ticket is asked for, so that it does not stay in the shell's history. A router that is not in the\n" +
			"cluster's file yet needs --address.",
		Example: "  harouter join 192.0.2.1 --token-file ticket\n" +
			"  harouter join 192.0.2.1 --node r3 --address 192.0.2.3 --priority 50 --device cable=enp3s0",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return wrongInput{fmt.Errorf("join takes one address, that of a running router of the cluster; see %s --help", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			address, err := joinAddress(args[0])
			if err != nil {
				return wrongInput{err}
			}
			req, err := f.request(c.node, cmd.Flags().Changed("priority"))
			if err != nil {
				return wrongInput{err}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM) // nothing may be left behind
			defer stop()
			j := joiner{c: c, force: f.force, out: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()}
			err = j.run(ctx, address, req, func() (join.Ticket, error) { return f.ticket(ctx, cmd.ErrOrStderr()) })
			if errors.Is(err, context.Canceled) {
				return errors.New("join was interrupted; nothing is written")
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.token, "token", "", "the `TICKET` that harouter token printed")
	fl.StringVar(&f.tokenFile, "token-file", "", "read the ticket from `FILE`")
	fl.StringArrayVar(&f.addresses, "address", nil, "`IP` of this node for gossip and state sync; may be repeated, in order of preference")
	fl.IntVar(&f.priority, "priority", 0, "priority `N` of this node, 1 to 254 (default 100)")
	fl.StringArrayVar(&f.devices, "device", nil, "`NAME=DEVICE`: a lan's or uplink's device that is named otherwise on this node; may be repeated")
	fl.BoolVar(&f.force, "force", false, "overwrite a configuration file and key that are here")
	return cmd
}

// joinAddress completes ADDRESS[:PORT] to host:port.
func joinAddress(s string) (string, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil { // IPv6 has colons of its own
		return netip.AddrPortFrom(a, defaultSync).String(), nil
	}
	host, port := s, strconv.Itoa(defaultSync)
	if strings.Contains(s, ":") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", fmt.Errorf("%q is no address: allowed: ADDRESS or ADDRESS:PORT, such as 192.0.2.1 or 192.0.2.1:7947", s)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q has no port behind the colon: allowed: 1 to 65535", s)
	}
	if host == "" || strings.ContainsAny(host, " /@") {
		return "", fmt.Errorf("%q is no address: allowed: ADDRESS or ADDRESS:PORT, such as 192.0.2.1 or 192.0.2.1:7947", s)
	}
	return net.JoinHostPort(host, port), nil
}

// request is what this router says of itself.
func (f *joinFlags) request(node string, hasPriority bool) (join.Request, error) {
	r := join.Request{Node: node, Version: versionString()}
	for _, text := range f.addresses {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil:
			return r, fmt.Errorf("--address %q is no IP address: allowed: one such as 192.0.2.3", text)
		case slices.Contains(r.Addresses, a):
			return r, fmt.Errorf("--address %v stands here twice", a)
		}
		r.Addresses = append(r.Addresses, a)
	}
	if hasPriority && (f.priority < 1 || f.priority > 254) {
		return r, fmt.Errorf("--priority %d: allowed: 1 to 254", f.priority)
	}
	r.Priority = uint8(f.priority)
	for _, text := range f.devices {
		link, device, ok := strings.Cut(text, "=")
		if !ok || link == "" || device == "" {
			return r, fmt.Errorf("--device %q: allowed: the name of a lan or uplink and its device here, such as cable=enp3s0", text)
		}
		if _, twice := r.Devices[link]; twice {
			return r, fmt.Errorf("--device: %q stands here twice", link)
		}
		if r.Devices == nil {
			r.Devices = map[string]string{}
		}
		r.Devices[link] = device
	}
	return r, nil
}

// ticket reads the ticket from where the person has it.
func (f *joinFlags) ticket(ctx context.Context, stderr io.Writer) (join.Ticket, error) {
	var word string
	switch {
	case f.token != "" && f.tokenFile != "":
		return join.Ticket{}, wrongInput{errors.New("--token and --token-file exclude each other")}
	case f.token != "":
		word = f.token
	case f.tokenFile != "":
		text, err := config.ReadFile(f.tokenFile, 4096)
		if err != nil {
			return join.Ticket{}, wrongInput{fmt.Errorf("read the ticket: %w", err)}
		}
		word = string(text)
	default:
		var err error
		if word, err = askSecret(ctx, os.Stdin, stderr, "ticket (it is not shown): "); err != nil {
			return join.Ticket{}, err
		}
	}
	t, err := join.ParseTicket(word)
	if err != nil {
		return t, wrongInput{err}
	}
	return t, nil
}

// joiner carries the verb out.
type joiner struct {
	c           *common
	force       bool
	out, stderr io.Writer
}

// run does what may fail here before the ticket is used up.
func (j *joiner) run(ctx context.Context, address string, req join.Request, ticket func() (join.Ticket, error)) error {
	c := j.c
	if filepath.Clean(c.config) == filepath.Clean(c.keyFile) {
		return wrongInput{fmt.Errorf("--config and --key-file are both %s: allowed: two different files", c.config)}
	}
	if err := j.refuseExisting(); err != nil {
		return err
	}
	t, err := ticket()
	if err != nil {
		return err
	}
	var set fileSet
	defer set.discard()
	if err := j.place(&set); err != nil {
		return fmt.Errorf("%w; the ticket is still unused", err)
	}
	b, err := join.Fetch(ctx, address, t, req)
	if err != nil {
		return err
	}
	if err := j.check(b, address); err != nil {
		return err
	}
	if err := j.write(&set, b); err != nil {
		return fmt.Errorf("%w; nothing is written, and the ticket is used: make a new one with `harouter token`", err)
	}
	_, err = fmt.Fprintf(j.out, "this is now node %s of cluster %s; written:\n  %s\n  %s\n  %s\nlook at it with `harouter check`, then start it with `harouter run` or `systemctl start harouter`\n",
		req.Node, b.Cluster, c.config, c.keyFile, acceptedFile(c.stateDir))
	return err
}

// usualFile is more than most configuration files have, bytes.
const usualFile = 64 << 10

// place makes room for all that will be written: a full disk is seen before the
// ticket is used.
func (j *joiner) place(set *fileSet) error {
	docs := append([]document{{j.c.keyFile, nil, 0o600}, {j.c.config, nil, 0o644}}, accepted(j.c.stateDir, 0, nil)...)
	for _, d := range docs {
		if err := set.place(d.path, d.mode); err != nil {
			return err
		}
		if err := set.reserve(d.path, usualFile); err != nil {
			return err
		}
	}
	return nil
}

func (j *joiner) write(set *fileSet, b join.Bundle) error {
	if err := set.fill(j.c.keyFile, b.Key); err != nil {
		return err
	}
	for i, d := range written(j.c.config, b.File) {
		if i > 0 { // a list, for which there was no place before
			if err := set.place(d.path, d.mode); err != nil {
				return err
			}
		}
		if err := set.fill(d.path, d.data); err != nil {
			return err
		}
	}
	for _, d := range accepted(j.c.stateDir, b.Generation, b.File) {
		if err := set.fill(d.path, d.data); err != nil {
			return err
		}
	}
	return set.commit()
}

// refuseExisting keeps a router's own settings.
func (j *joiner) refuseExisting() error {
	if j.force {
		return nil
	}
	for _, path := range []string{j.c.config, j.c.keyFile} {
		switch _, err := os.Lstat(path); {
		case err == nil:
			return wrongInput{fmt.Errorf("%s is here already: this machine may belong to a cluster; --force overwrites it (the ticket is still unused)", path)}
		case !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("look for a file that may be here: %w", err)
		}
	}
	return nil
}

// check refuses what the daemon would refuse.
func (j *joiner) check(b join.Bundle, address string) error {
	file, problems := config.Parse("the file of "+address, b.File)
	for _, p := range problems {
		fmt.Fprintln(j.stderr, p)
	}
	if err := problems.Err(); err != nil {
		return fmt.Errorf("%s gave a file that this harouter (%s) refuses: nothing is written; is it older than that router's?", address, versionString())
	}
	if !slices.ContainsFunc(file.Nodes, func(n config.Node) bool { return n.Name == j.c.node }) {
		return fmt.Errorf("%s gave a file without the node %s: nothing is written", address, j.c.node)
	}
	if _, err := config.ParseKey(b.Key); err != nil {
		return fmt.Errorf("%s gave a key that is none, nothing is written: %w", address, err)
	}
	return nil
}
