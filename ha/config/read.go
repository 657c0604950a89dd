package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
)

// Load reads the file at path. A file that cannot be read is a problem like any
// other, without a position.
func Load(path string) (*Config, Problems) {
	data, problems := Read(path)
	if problems != nil {
		return nil, problems
	}
	return Parse(path, data)
}

// Read returns the text of a file with the lists that it names (see Pack), of one
// that is too long only so many bytes that Parse says so.
func Read(path string) ([]byte, Problems) {
	data, err := ReadFile(path, maxSize)
	if err != nil {
		if inner, ok := errors.AsType[*fs.PathError](err); ok {
			err = inner.Err
		}
		text := "read the configuration: " + err.Error()
		if errors.Is(err, fs.ErrNotExist) {
			text += "; harouter init writes the first router's file, harouter join fetches it from one that runs"
		}
		return nil, Problems{{File: path, Text: text}}
	}
	if bytes.Contains(data, []byte(listMark)) { // on the disk it is none of ours
		_, problems := newSource(path, data)
		return nil, problems.sorted()
	}
	lists, problems := readLists(path, data)
	if problems != nil {
		return nil, problems
	}
	return Pack(data, lists), nil
}

// Parse reads the text of a file with its lists; name is only for messages. With
// an error among the problems there is no Config; warnings come with one.
func Parse(name string, data []byte) (*Config, Problems) {
	file, lists, err := Unpack(data)
	if err != nil {
		return nil, Problems{{File: name, Text: "read the configuration: " + err.Error()}}
	}
	src, problems := newSource(name, file)
	if len(problems) > 0 {
		return nil, problems.sorted()
	}
	root, problems := parseTree(src)
	if len(problems) > 0 {
		return nil, problems.sorted()
	}
	d := &decoder{src: src, lists: lists}
	c := d.file(root)
	problems = append(d.problems.sorted(), d.listed...)
	if problems.Err() == nil && len(d.known) != len(lists) {
		problems = append(problems, Problem{File: name, Text: "read the configuration: " + errPack.Error()})
	}
	if problems.Err() != nil {
		return nil, problems
	}
	sum := sha256.Sum256(data)
	c.Hash = hex.EncodeToString(sum[:])
	return c, problems
}

const smallest = "at least cluster: and nodes: (see deploy/samples/minimal.yaml)"

func (d *decoder) file(root *value) *Config {
	c := defaults()
	at := &value{line: 1, col: 1}
	switch {
	case root == nil || root.kind == null:
		d.fail(at, "the file is empty; allowed: %s", smallest)
		return c
	case root.kind != mapping:
		d.fail(root, "%s stands here, which is no configuration; allowed: %s", root.kind, smallest)
		return c
	}
	t := d.table(root, at, top)
	take(t, "cluster", &c.Cluster, name(maxName)).required("the name of the cluster, such as home")
	d.vrrp(t.sub("vrrp"), &c.VRRP)
	c.Nodes = d.nodes(t)
	c.Lans = d.lans(t, c.VRRP)
	c.Uplinks = d.uplinks(t, c.VRRP)
	c.Policies = d.policies(t, c.Uplinks, c.Lans)
	d.balance(t.sub("balance"), &c.Balance)
	d.firewall(t.sub("firewall"), &c.Firewall)
	d.routes(t, &c.Routes)
	d.conntrackSync(t.sub("conntrack_sync"), &c.ConntrackSync)
	d.services(t, &c.Services)
	d.hooks(t.sub("hooks"), &c.Hooks)
	d.mail(t.sub("mail"), &c.Mail)
	d.webhook(t.sub("webhook"), &c.Webhook)
	d.ports(t.sub("ports"), &c.Ports)
	d.log(t.sub("log"), &c.Log)
	t.close()
	d.check(c)
	return c
}
