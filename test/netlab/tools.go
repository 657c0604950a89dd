package netlab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tool finds a program also where root's PATH lacks the sbin folders.
func tool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path := filepath.Join(dir, name); isProgram(path) {
			return path, nil
		}
	}
	pkg := map[string]string{"ip": "iproute2", "nft": "nftables"}[name]
	return "", fmt.Errorf("find %s: not installed (package %s)", name, pkg)
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// run starts a program where the calling thread is, gives it a script and
// returns what it printed.
func run(input, name string, args ...string) (string, error) {
	path, err := tool(name)
	if err != nil {
		return "", err
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(errs.String())
		if input != "" {
			said += "\n" + input
		}
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said)
	}
	return out.String(), nil
}

// ipBatch runs lines of ip where the calling thread is, all in one process.
func ipBatch(lines string) error {
	if strings.TrimSpace(lines) == "" {
		return nil
	}
	_, err := run(lines, "ip", "-batch", "-")
	return err
}

// ready checks once what a site needs of the machine.
func ready() error {
	if os.Geteuid() != 0 {
		return errors.New("build a site: needs root (network namespaces): run it with sudo")
	}
	for _, name := range []string{"ip", "nft"} {
		if _, err := tool(name); err != nil {
			return fmt.Errorf("build a site: %w", err)
		}
	}
	return nil
}
