package manual

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Files are what the manual of the program names under FILES.
var files = []struct{ path, text string }{
	{"/etc/harouter/harouter.yaml", "The configuration, the same on every router: harouter.yaml(5)."},
	{"/etc/harouter/cluster.key", "The cluster's secret, mode 0600."},
	{"/etc/harouter/hooks/", "Scripts of the administrator."},
	{"/etc/harouter/nft.d/", "Rules of the administrator for our nft table: files that end in .nft, looked at when the daemon starts and at a reload."},
	{"/etc/default/harouter, /etc/conf.d/harouter", "Flags of the service, on Debian and on Gentoo."},
	{"/run/harouter/harouter.sock", "The control socket of the commands."},
	{"/var/lib/harouter/", "What is remembered over restarts."},
}

// Commands makes harouter(8), and a page for each command that people use.
func Commands(root *cobra.Command, version string) []Page {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	var pages []Page
	var each func(c *cobra.Command)
	each = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		pages = append(pages, command(c, version))
		for _, sub := range c.Commands() {
			each(sub)
		}
	}
	each(root)
	slices.SortFunc(pages, func(a, b Page) int { return cmp.Compare(a.Name, b.Name) })
	return pages
}

func dashed(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func command(c *cobra.Command, version string) Page {
	r := begin(dashed(c), 8, version)
	r.section("name")
	fmt.Fprintf(&r.b, "%s \\- %s\n", escapeWord(dashed(c)), escapeWord(c.Short))
	r.section("synopsis")
	usage := c.UseLine()
	if c.HasAvailableSubCommands() {
		usage = c.CommandPath() + " COMMAND [flags]"
	}
	fmt.Fprintf(&r.b, "\\fB%s\\fR\n", escapeWord(usage))
	r.section("description")
	long := cmp.Or(c.Long, strings.ToUpper(c.Short[:1])+c.Short[1:]+".")
	for p := range strings.SplitSeq(long, "\n\n") {
		if strings.Contains(p, "\n\t") || strings.HasPrefix(p, "\t") {
			r.verbatim(p)
		} else {
			r.text(p)
		}
	}
	if c.HasAvailableSubCommands() {
		r.section("commands")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() && sub.Name() != "help" {
				r.item(dashed(sub)+"(8)", sub.Short)
			}
		}
	}
	flags(r, "options", c.NonInheritedFlags())
	flags(r, "options of every command", c.InheritedFlags())
	if c.Example != "" {
		r.section("examples")
		r.verbatim(c.Example)
	}
	r.section("exit status")
	fmt.Fprint(&r.b, "0 done, 1 failed, 2 wrong input.\n")
	if !c.HasParent() {
		r.section("files")
		for _, f := range files {
			r.item(f.path, f.text)
		}
	}
	r.section("see also")
	also := "harouter.yaml(5)"
	if c.HasParent() {
		also = dashed(c.Parent()) + "(8), " + also
	}
	fmt.Fprintf(&r.b, "%s\n", escapeWord(also))
	return Page{Name: dashed(c) + ".8", Text: r.b.String()}
}

func flags(r *roff, title string, set *pflag.FlagSet) {
	if !set.HasAvailableFlags() {
		return
	}
	r.section(title)
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		word := "--" + f.Name
		if f.Shorthand != "" {
			word = "-" + f.Shorthand + ", " + word
		}
		if value != "" {
			word += " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && !strings.Contains(text, "(default") {
			text += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		r.item(word, text)
	})
}
