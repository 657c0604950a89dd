package dataplane

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// Forwarded returns how many packets this network namespace has forwarded, IPv4
// and IPv6 (ForwDatagrams of RFC 4293, which the kernel counts anyway).
func Forwarded() (uint64, error) {
	b, err := os.ReadFile("/proc/net/snmp")
	if err != nil {
		return 0, fmt.Errorf("read how many packets were forwarded: %w", err)
	}
	four, err := forwarded4(b)
	if err != nil {
		return 0, fmt.Errorf("read how many packets were forwarded from /proc/net/snmp: %w", err)
	}
	b, err = os.ReadFile("/proc/net/snmp6")
	if errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
		return four, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read how many IPv6 packets were forwarded: %w", err)
	}
	six, err := forwarded6(b)
	if err != nil {
		return 0, fmt.Errorf("read how many packets were forwarded from /proc/net/snmp6: %w", err)
	}
	return four + six, nil
}

var errNoCounter = errors.New("the counter is not there")

// forwarded4 reads a line of names and a line of numbers, both with "Ip:".
func forwarded4(b []byte) (uint64, error) {
	column := 0
	for line := range bytes.Lines(b) {
		fields := bytes.Fields(line)
		if len(fields) == 0 || string(fields[0]) != "Ip:" {
			continue
		}
		if column > 0 && column < len(fields) {
			return strconv.ParseUint(string(fields[column]), 10, 64)
		}
		for i, f := range fields {
			if string(f) == "ForwDatagrams" {
				column = i
			}
		}
	}
	return 0, errNoCounter
}

// forwarded6 reads a name and a number in each line.
func forwarded6(b []byte) (uint64, error) {
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 2 && string(f[0]) == "Ip6OutForwDatagrams" {
			return strconv.ParseUint(string(f[1]), 10, 64)
		}
	}
	return 0, errNoCounter
}
