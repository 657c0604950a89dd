package importer

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// hookOf are the directories whose scripts run here as they are.
var hookOf = map[string]string{
	"lsm/up.d": "uplink-up.d", "lsm/down.d": "uplink-down.d", "lsm/long_down.d": "uplink-long-down.d",
}

// ruleDirs are read in the order in which Net-ISP-Balance runs them.
var ruleDirs = []string{"pre-run", "routes", "firewall", "post-run"}

// readBeside goes through the files beside balance.conf.
func (im *importer) readBeside() {
	files := slices.Clone(im.in.Beside)
	slices.SortStableFunc(files, func(a, b File) int {
		return cmp.Or(slices.Index(ruleDirs, path.Dir(a.Name))-slices.Index(ruleDirs, path.Dir(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	for _, f := range files {
		dir, base := path.Dir(f.Name), path.Base(f.Name)
		if strings.HasSuffix(base, "~") || strings.HasSuffix(base, ".bak") || strings.HasPrefix(base, "#") || strings.HasPrefix(base, ".") {
			continue // as Net-ISP-Balance does
		}
		if hook, ok := hookOf[dir]; ok {
			im.copies = append(im.copies, copied{f.Path, hook})
			continue
		}
		if !slices.Contains(ruleDirs, dir) {
			continue
		}
		s, ok := im.newSheet(f, "balance/"+f.Name)
		switch {
		case !ok:
		case strings.HasSuffix(base, ".pl"):
			im.readPerl(s)
		default:
			im.readLines(s)
		}
	}
}

// readLines takes a file whose lines go to the shell one by one.
func (im *importer) readLines(s *sheet) {
	for i, line := range s.lines {
		text := strings.TrimSpace(line)
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		im.shell(s.at(i+1, strings.Index(line, text[:1])), text)
	}
}

// shell takes one command as the shell would.
func (im *importer) shell(at place, line string) {
	words, err := shellWords(line)
	if err != nil {
		im.later(at, line, err.Error()+": only plain commands are read; "+otherCommand)
		return
	}
	if len(words) > 1 && path.Base(words[0]) == "sudo" {
		words = words[1:]
	}
	if len(words) == 0 {
		return
	}
	switch name := path.Base(words[0]); name {
	case "iptables":
		im.iptables(at, line, words[1:])
	case "ip":
		im.ipCommand(at, line, words[1:])
	case "echo", "true", ":":
		im.needless(at, line, "it does nothing to the network")
	case "sysctl":
		im.later(at, line, "write it into a file of /etc/sysctl.d")
	default:
		im.later(at, line, otherCommand)
	}
}

func (im *importer) iptables(at place, line string, words []string) {
	r, err := parseRule(words)
	if err != nil {
		im.later(at, line, shown(err.Error())+" is not read here; "+inNft)
		return
	}
	r.at, r.line = at, line
	im.apply(r)
}
