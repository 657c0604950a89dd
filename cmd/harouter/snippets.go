package main

import (
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"

	"harouter/balancer"
	"harouter/balancer/snippets"
	"harouter/ha/doctor"
)

// snippetsEnd ends what the script of `plan` gives to nft: no line of rules is like it.
const snippetsEnd = "end of " + snippets.Directory

// snippetScript is the part of the script of `plan` that puts the admin's own
// rules into the table, on the node that has them.
func snippetScript(config string, here bool) string {
	all, failed := snippets.Read(besideConfig(config, snippets.Directory))
	if len(all) == 0 && len(failed) == 0 {
		return ""
	}
	if !here {
		return "# The rules in " + snippets.Directory + " are this machine's own and no part of it.\n"
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		fmt.Fprintf(&b, "# %s/%q is left out: %q\n", snippets.Directory, name, failed[name].Error())
	}
	all = slices.DeleteFunc(all, func(s balancer.Snippet) bool { return failed[s.Name] != nil })
	if len(all) > 0 {
		fmt.Fprintf(&b, "nft -f - <<'%s'\n%s%s\n", snippetsEnd, balancer.SnippetText(all), snippetsEnd)
	}
	return b.String()
}

// examineSnippets looks at the admin's own rules, as far as that takes no rights:
// nft itself tries them when they are put into the table.
func examineSnippets(config string) []doctor.Finding {
	all, failed := snippets.Read(besideConfig(config, snippets.Directory))
	var out []doctor.Finding
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		out = append(out, doctor.Finding{Level: doctor.Warning, Subject: strings.TrimSuffix(snippets.Directory+"/"+name, "/"), Text: failed[name].Error(),
			Mend: "change the file, then harouter reload"})
	}
	if _, err := exec.LookPath(snippets.Program); err != nil && len(all) > 0 {
		out = append(out, doctor.Finding{Level: doctor.Warning, Subject: snippets.Directory, Text: "the program nft, which reads the rules there, is not installed: they are not in force",
			Mend: "install nftables"})
	}
	return out
}
