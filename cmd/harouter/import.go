package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"harouter/ha/config"
	"harouter/ha/config/importer"
	"harouter/ha/survey"
)

// importArgs are what a person says; the rest is read from files and seen.
type importArgs struct {
	cluster, address, output, rules string
	lans                            []string
	force, offline                  bool
}

// Where Net-ISP-Balance looks for its file, on Debian, on Red Hat, elsewhere.
var balanceConfs = []string{"/etc/network/balance.conf", "/etc/sysconfig/network-scripts/balance.conf", "/etc/balance.conf"}

const importLanForm = "NAME=ADDRESS/LENGTH"

func newImport(c *common) *cobra.Command {
	var a importArgs
	cmd := &cobra.Command{
		Use: "import [BALANCE.CONF]", Short: "make a configuration file from that of Net-ISP-Balance",
		Long: "Reads a balance.conf (default " + balanceConfs[0] + ") and the directory balance beside it, with its rule\n" +
			"files, Perl files and scripts, and writes a configuration file with one node: to stdout, or with --output\n" +
			"to a file. Comments say where each value came from; what cannot be taken over is listed at the end with\n" +
			"what to write instead, and told on stderr. Nothing else is changed, and no rule file is run.\n\n" +
			"Run it on the router itself: the addresses of the lans are what its devices have now.",
		Example: "  harouter import --output /etc/harouter/harouter.yaml\n" +
			"  harouter import balance.conf --lan office=192.168.1.1/24 --address 192.0.2.1 > harouter.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return wrongInput{errors.New("import takes one file")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name := firstThere(balanceConfs)
			if len(args) == 1 {
				name = args[0]
			}
			return importConf(cmd, c, a, name)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&a.output, "output", "o", "", "`FILE` to write (default stdout)")
	f.BoolVar(&a.force, "force", false, "replace the file of --output if it is there")
	f.StringVar(&a.cluster, "cluster", "home", "`NAME` of the cluster")
	f.StringVar(&a.address, "address", "", "`IP` where other routers will reach this one (default a placeholder)")
	f.StringArrayVar(&a.lans, "lan", nil, "the virtual address of a lan, as `"+importLanForm+"`; repeatable (default what its device has)")
	f.StringVar(&a.rules, "rules", "", "`DIR` of the rule files (default balance beside the file)")
	f.BoolVar(&a.offline, "offline", false, "look up no names; lines that ping a name get no target")
	return cmd
}

func firstThere(paths []string) string {
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return paths[0]
}

func importConf(cmd *cobra.Command, c *common, a importArgs, name string) error {
	if a.output != "" && !a.force {
		if _, err := os.Lstat(a.output); !errors.Is(err, os.ErrNotExist) {
			return wrongInput{fmt.Errorf("%s is there already, so nothing was written; --force replaces it", a.output)}
		}
	}
	in, err := a.input(cmd.Context(), c.node, name)
	if err != nil {
		return wrongInput{err}
	}
	text, problems := importer.Import(in)
	stderr := cmd.ErrOrStderr()
	for _, p := range problems {
		fmt.Fprintln(stderr, p)
	}
	if errs := problems.Errors(); len(errs) > 0 {
		fmt.Fprintf(stderr, "%s: %s; nothing was written\n", name, plural(len(errs), "mistake"))
		return silent{2}
	}
	if a.output == "" {
		_, err := cmd.OutOrStdout().Write(text)
		return err
	}
	if err := place(document{a.output, text, 0o644}); err != nil {
		return err
	}
	return importedText(cmd.OutOrStdout(), c, a.output, text, len(problems))
}

// importedText tells what was written and what to do next.
func importedText(out io.Writer, c *common, path string, text []byte, warnings int) error {
	file, problems := config.Parse(path, text)
	if err := problems.Err(); err != nil {
		return err
	}
	key := filepath.Join(filepath.Dir(path), filepath.Base(c.keyFile))
	_, err := fmt.Fprintf(out, "%s: written (%s, %s; %s)\n\nNext:\n  read it, its end too\n  harouter check %[1]s\n", path,
		plural(len(file.Lans), "lan"), plural(len(file.Uplinks), "uplink"), plural(warnings, "warning"))
	if err != nil {
		return err
	}
	if _, err := os.Lstat(key); errors.Is(err, os.ErrNotExist) {
		fmt.Fprintf(out, "  (umask 077; head -c 32 /dev/urandom | base64 > %s)\n", key)
	}
	_, err = fmt.Fprintf(out, "  disable Net-ISP-Balance and its monitor, enable harouter, restart this machine\n")
	return err
}

// input gathers what import knows.
func (a importArgs) input(ctx context.Context, node, name string) (in importer.Input, err error) {
	data, err := config.ReadFile(name, importer.MaxSize)
	if err != nil {
		return in, fmt.Errorf("read the file of Net-ISP-Balance: %w", err)
	}
	in = importer.Input{Conf: importer.File{Name: filepath.Base(name), Path: name, Data: data}, Cluster: a.cluster, Node: node, Lans: map[string]netip.Prefix{}}
	var errs []error
	if a.address != "" {
		if in.Address, err = netip.ParseAddr(a.address); err != nil {
			errs = append(errs, fmt.Errorf("--address %q is no IP address; allowed: one such as 192.0.2.1", a.address))
		}
	}
	for _, flag := range a.lans {
		lan, text, _ := strings.Cut(flag, "=")
		p, err := netip.ParsePrefix(text)
		if err != nil || lan == "" {
			errs = append(errs, fmt.Errorf("--lan %q is not understood; allowed: %s, such as office=192.168.77.1/24", flag, importLanForm))
		}
		lan = strings.ToLower(lan)
		if in.Lans[lan].IsValid() {
			errs = append(errs, fmt.Errorf("--lan %s stands twice; allowed: once for each lan", lan))
		}
		in.Lans[lan] = p
	}
	if err := errors.Join(errs...); err != nil {
		return in, err
	}
	rules := a.rules
	if rules == "" {
		rules = filepath.Join(filepath.Dir(name), "balance")
	} else if _, err := os.Stat(rules); err != nil {
		return in, fmt.Errorf("read the rule files: %w", err)
	}
	if in.Beside, err = beside(rules); err != nil {
		return in, err
	}
	devices, err := survey.Look()
	if err != nil {
		return in, err
	}
	for _, d := range devices {
		in.Devices = append(in.Devices, importer.Device{Name: d.Name, Address: d.Address, Gateway: d.Gateway, Dynamic: d.Dynamic, Labelled: d.Labelled})
	}
	if !a.offline {
		in.Resolve = lookUp(ctx)
	}
	return in, nil
}

// lookUp resolves names, all of them within a few seconds and each once.
func lookUp(ctx context.Context) func(name string) (netip.Addr, error) {
	const patience = 3 * time.Second
	type answer struct {
		addr netip.Addr
		err  error
	}
	known := map[string]answer{}
	until := time.Now().Add(patience)
	return func(name string) (netip.Addr, error) {
		if was, ok := known[name]; ok {
			return was.addr, was.err
		}
		ctx, cancel := context.WithDeadline(ctx, until)
		defer cancel()
		var a answer
		all, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
		if a.err = err; len(all) > 0 {
			a.addr = all[0]
		}
		known[name] = a
		return a.addr, a.err
	}
}

// Directories that Net-ISP-Balance runs the files of, below its directory balance.
var ruleDirs = []string{"pre-run", "routes", "firewall", "post-run", "lsm/up.d", "lsm/down.d", "lsm/long_down.d"}

// maxBeside is more files than anybody has there.
const maxBeside = 1000

// beside reads the rule files; a directory that is not there has none.
func beside(dir string) (files []importer.File, err error) {
	for _, sub := range ruleDirs {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the rule files: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, sub, e.Name())
			if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
				continue
			}
			if len(files) == maxBeside {
				return nil, fmt.Errorf("read the rule files: more than %d of them below %s", maxBeside, dir)
			}
			data, err := config.ReadFile(path, importer.MaxSize)
			if err != nil {
				return nil, fmt.Errorf("read the rule files: %w", err)
			}
			files = append(files, importer.File{Name: sub + "/" + e.Name(), Path: path, Data: data})
		}
	}
	return files, nil
}
