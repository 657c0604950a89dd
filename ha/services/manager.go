package services

import (
	"errors"
	"os"
	"os/exec"
)

// manager is the program that starts and stops, and the order of its words.
type manager struct {
	program   string
	nameFirst bool
}

var (
	systemd = manager{program: "systemctl"}
	openrc  = manager{program: "rc-service", nameFirst: true}
)

// runsSystemd is there where systemd is in charge, and not merely installed
// (sd_booted(3)).
const runsSystemd = "/run/systemd/system"

// find tells which manager the machine has.
func find() (manager, error) {
	_, noSystemctl := exec.LookPath(systemd.program)
	_, noRC := exec.LookPath(openrc.program)
	switch {
	case noSystemctl != nil && noRC != nil:
		return manager{}, errors.New("neither systemctl nor rc-service is in PATH")
	case noRC != nil:
		return systemd, nil
	case noSystemctl != nil:
		return openrc, nil
	}
	if _, err := os.Stat(runsSystemd); err != nil {
		return openrc, nil
	}
	return systemd, nil
}

// args are those that start or stop a service.
func (m manager) args(verb, service string) []string {
	if m.nameFirst {
		return []string{service, verb}
	}
	return []string{verb, service}
}
