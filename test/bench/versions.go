package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

type version struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// versions tells what was measured, on what.
func versions(binary string) []version {
	load, _, _ := strings.Cut(firstLine(os.ReadFile("/proc/loadavg")), " ")
	return []version{
		{"harouter", firstLine(exec.Command(binary, "version").CombinedOutput())},
		{"keepalived", firstLine(exec.Command(tool("keepalived"), "--version").CombinedOutput())},
		{"conntrackd", firstLine(exec.Command(tool("conntrackd"), "-v").CombinedOutput())},
		{"go", runtime.Version() + " (of this bench)"},
		{"kernel", firstLine(os.ReadFile("/proc/sys/kernel/osrelease"))},
		{"nft", firstLine(exec.Command(tool("nft"), "--version").CombinedOutput())},
		{"ip", firstLine(exec.Command(tool("ip"), "-V").CombinedOutput())},
		{"machine", fmt.Sprintf("%d x %s, load %s before", runtime.NumCPU(), processor(), load)},
		{"date", time.Now().Format(time.RFC3339)},
	}
}

func firstLine(out []byte, err error) string {
	text, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if text == "" && err != nil {
		return "not here: " + err.Error()
	}
	return text
}

func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for lines := bufio.NewScanner(bytes.NewReader(info)); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// tool finds a program also where the path of a plain user does not look.
func tool(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return "/usr/sbin/" + name
}
