package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"harouter/ha"
	"harouter/ha/config"
	"harouter/ha/gossip"
	"harouter/ha/join"
)

// maxFile bounds the configuration file, bytes: it travels to other nodes as a
// message.
const maxFile = 256 << 10

// Read reads the file that is asked for and checks it for this node, also that
// there is room to keep it.
func (d *daemon) Read(a ha.ReadFile) ha.Checked {
	out := ha.Checked{ID: a.ID}
	text, err := d.text(a)
	var s *settings
	if err == nil {
		out.Text, out.Hash = text, join.Hash(text)
		s, err = d.fit(text, a.Cold)
	}
	if err == nil {
		// A port that this process has just left may be open for a moment.
		err = patiently(func() error { return checkPorts(s, d.settings()) })
	}
	if err == nil {
		err = d.room(a, text)
	}
	if err != nil {
		out.Err = err.Error()
	}
	return out
}

// text is the file's own text, or that of the running one with a node more or
// less.
func (d *daemon) text(a ha.ReadFile) ([]byte, error) {
	running := d.settings().text
	switch {
	case a.Add != nil:
		return config.AddNode(running, config.NewNode{
			Name: a.Add.Name, Addresses: a.Add.Addresses, Priority: a.Add.Priority, Devices: a.Add.Devices,
		})
	case a.Remove != "":
		return config.RemoveNode(running, a.Remove)
	case a.Text != nil:
		return a.Text, nil
	}
	return readText(d.c.config)
}

// readText reads the file with the lists of networks that it names.
func readText(path string) ([]byte, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	text, problems := config.Read(path)
	if problems != nil {
		return nil, problems
	}
	return text, nil
}

// written are the documents that make up a text: the file, and beside it the
// lists that it names.
func written(path string, text []byte) []document {
	file, lists, err := config.Unpack(text)
	if err != nil { // Parse refuses such a text
		return []document{{path, text, 0o644}}
	}
	docs := []document{{path, file, 0o644}}
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		docs = append(docs, document{filepath.Join(filepath.Dir(path), name), lists[name], 0o644})
	}
	return docs
}

// fit checks a file for this node, and that it may follow the one that runs.
// After a cold start, what running connections could not follow may change too.
func (d *daemon) fit(text []byte, cold bool) (*settings, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s has %d bytes; allowed: %d", d.c.config, len(text), maxFile)
	}
	s, err := parse(d.c.config, text, d.c.node)
	if err != nil {
		return nil, err
	}
	old := d.settings()
	if s.file.Cluster != old.file.Cluster {
		return nil, fmt.Errorf("the name of the cluster cannot change while it runs (%s, not %s): stop all nodes first", old.file.Cluster, s.file.Cluster)
	}
	if cold {
		return s, nil
	}
	if was, is := old.file.Balance.MarkMask, s.file.Balance.MarkMask; was != is {
		return nil, fmt.Errorf("balance.mark_mask cannot change while the cluster runs (%v, not %v): its connections carry the old marks; stop all nodes, then start them with the new file", was, is)
	}
	for _, was := range old.file.Uplinks {
		for _, u := range s.file.Uplinks {
			if u.Name == was.Name && u.ID != was.ID {
				return nil, fmt.Errorf("uplink %s has the id %d and may not get %d: its flows carry the old one; write id: %d into it, or give it another name", u.Name, was.ID, u.ID, was.ID)
			}
		}
	}
	return s, nil
}

// room tries whether a file can be kept, on disks that may be full: in the state
// directory, and in the place of the configuration where that follows. Where
// nothing can be kept at all, that is known since the start.
func (d *daemon) room(a ha.ReadFile, text []byte) error {
	if _, err := os.Stat(d.c.stateDir); err != nil {
		return nil
	}
	docs := []document{{acceptedFile(d.c.stateDir), text, 0o644}}
	if a.Add != nil || a.Remove != "" || a.Text != nil {
		docs = append(docs, written(d.c.config, text)...)
	}
	var set fileSet
	defer set.discard()
	for _, doc := range docs {
		if err := set.place(doc.path, doc.mode); err != nil {
			return fmt.Errorf("keep the file: %w", err)
		}
		if err := set.fill(doc.path, doc.data); err != nil {
			return fmt.Errorf("keep the file: %w", err)
		}
	}
	return nil
}

// Adopt keeps a file and hands it to all parts. They take it without a gap for
// what stays the same.
func (d *daemon) Adopt(ctx context.Context, a ha.Adopt) (ha.Config, error) {
	s, err := parse(d.c.config, a.Text, d.c.node) // Read has seen that it may follow
	if err != nil {
		return ha.Config{}, err
	}
	s.generation, s.former = a.Generation, d.settings().formerly(s)
	cfg, err := s.ha()
	if err != nil {
		return ha.Config{}, err
	}
	docs := accepted(d.c.stateDir, a.Generation, a.Text)
	if a.Trial {
		docs = []document{{trialMark(d.c.stateDir), []byte(s.file.Hash + "\n"), 0o644}}
	}
	if disk, err := readText(d.c.config); a.Replace != "" && (err != nil || join.Hash(disk) == a.Replace) && s.file.Hash != a.Replace {
		if err == nil && !a.Trial && readTrial(d.c.stateDir) == a.Replace {
			if err := keepTried(d.c, disk); err != nil {
				d.log.part("ha").Warn("the file that was on trial is not kept", "error", err)
			}
		}
		docs = append(docs, written(d.c.config, a.Text)...)
	}
	if err := place(docs...); err != nil {
		if _, gone := os.Stat(d.c.stateDir); gone == nil {
			return ha.Config{}, err
		}
		d.log.part("ha").Warn("the configuration is not kept for the next start", "error", err)
	}
	if !a.Trial {
		if err := ignoreMissing(os.Remove(trialMark(d.c.stateDir))); err != nil {
			d.log.part("ha").Warn("the mark of a trial stays", "error", err)
		}
	}
	if s.file.Hash != d.settings().file.Hash {
		d.configure(ctx, s)
	} else {
		d.current.Store(s)
	}
	d.lookAtFile()
	d.follow.snippets.Look() // they are no part of the file
	return cfg, nil
}

// configure hands new settings to all parts.
func (d *daemon) configure(ctx context.Context, s *settings) {
	log := d.log.part("ha")
	d.current.Store(s)
	d.log.set(s.file.Log)
	d.follow.configure(d, s)
	try := func(part string, err error) {
		if err != nil {
			log.Error("the new configuration, in part", "part", part, "error", err)
		}
	}
	try("priority", hasten(s))
	if err := d.prepare(); err != nil {
		log.Warn("sysctls", "error", err)
	}
	w := s.wire()
	w.Receive, w.Log = d.received, d.log.part("vrrp")
	// A probe whose route goes with its address would leave by another uplink.
	d.prober.Configure(s.probes())
	d.racer.Configure(s.racers(), uint32(s.file.Balance.MarkMask))
	// The addresses before the adverts: adverts leave from a device's own.
	try("virtual addresses", d.vip.Configure(ctx, d.vipConfig(s)))
	try("vrrp", d.wire.Configure(w))
	try("gossip", d.gossip.Configure(d.gossipConfig(s)))
	try("greetings", d.hello.Configure(d.helloConfig(s)))
	d.links.Configure(s.watched(), s.auto())
	d.load.Configure(s.uplinkDevices(), s.goesByLoad())
	d.fitness.Configure(s.fit())
	try("state sync", d.sessions.Configure(d.sessionConfig(s)))
	d.configureReplica(s)
	if size, err := d.tableSize(s); err == nil { // else there is no table yet
		d.replica.Resize(size)
	}
}

func (d *daemon) gossipConfig(s *settings) gossip.Config {
	var keys [][]byte
	for _, k := range d.key.DeriveAll("harouter gossip v1") {
		keys = append(keys, k[:])
	}
	return gossip.Config{
		Node: s.node, Addresses: s.self().Addresses, Port: int(s.file.Ports.Gossip), Peers: s.peers(),
		Keys: keys, ClusterLabel: s.file.Cluster, Handler: d.gossiped, Log: d.log.part("gossip"),
	}
}

// fileWatch looks at the configuration file now and then: what somebody edits
// does not run before all agree on it, but it is shown.
type fileWatch struct{ d *daemon }

func (w fileWatch) String() string { return "configuration file" }

// lookEvery is how often the file is looked at.
const lookEvery = time.Second

func (w fileWatch) Run(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	var last []os.FileInfo
	files := []string{w.d.c.config}
	for {
		infos := stat(files)
		if !slices.EqualFunc(infos, last, same) {
			w.d.lookAtFile()
			if file, err := config.ReadFile(w.d.c.config, maxFile); err == nil {
				files = append(files[:1], config.Lists(w.d.c.config, file)...)
				infos = stat(files)
			}
		}
		last = infos
		t.Reset(ha.Together(time.Now(), lookEvery))
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// stat is what is known of some files, nil for one that cannot be looked at.
func stat(files []string) []os.FileInfo {
	out := make([]os.FileInfo, len(files))
	for i, f := range files {
		if info, err := os.Stat(f); err == nil {
			out[i] = info
		}
	}
	return out
}

// same tells that a file was not written since; one that is missing may have been.
func same(a, b os.FileInfo) bool {
	return a != nil && b != nil && a.ModTime() == b.ModTime() && a.Size() == b.Size() && os.SameFile(a, b)
}

// lookAtFile tells the machine what stands in the configuration file.
func (d *daemon) lookAtFile() {
	text, err := readText(d.c.config)
	seen := ha.FileSeen{}
	switch {
	case errors.Is(err, os.ErrNotExist):
		seen.Err = d.c.config + " is gone"
	case err != nil:
		seen.Err = err.Error()
	default:
		seen.Hash = join.Hash(text)
		if seen.Hash != d.settings().file.Hash {
			if _, err := d.fit(text, true); err != nil {
				seen.Err = err.Error()
			}
		}
	}
	d.seenMu.Lock()
	defer d.seenMu.Unlock()
	if seen != d.seen {
		d.seen = seen
		d.loop.Post(seen)
	}
}
