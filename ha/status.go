package ha

import (
	"encoding/json"
	"net/netip"
	"time"

	"harouter/balancer"
)

// Status is what `harouter status --json` prints: the cluster as one node sees
// it. Numbers and times that are not known are nil and print as null, states
// that are not known print as "unknown", lists are never null.
type Status struct {
	Cluster string    `json:"cluster"`
	Node    string    `json:"node"` // the node that answers
	Role    Role      `json:"role"`
	Since   time.Time `json:"since"` // of Role
	Version string    `json:"version"`

	Config           ConfigStatus    `json:"config"`
	VRRP             VRRPStatus      `json:"vrrp"`
	VirtualAddresses []AddressStatus `json:"virtual_addresses"`
	Nodes            []NodeStatus    `json:"nodes"`
	Uplinks          []UplinkStatus  `json:"uplinks"`
	Policies         []PolicyStatus  `json:"policies"`
	PlanHash         string          `json:"plan_hash"`
	ConntrackSync    SyncStatus      `json:"conntrack_sync"`
	Repairs          Repairs         `json:"repairs"`
	Drops            Drops           `json:"drops"`
	Alarms           []Alarm         `json:"alarms"`
}

type (
	// ConfigStatus tells which file runs here and whether all live nodes run
	// the same.
	ConfigStatus struct {
		Hash       string `json:"hash"`
		InSync     bool   `json:"in_sync"`
		Generation uint64 `json:"generation"` // how often the cluster agreed on a new file
		Trial      bool   `json:"trial"`      // the generation goes back unless it is kept
	}

	// VRRPStatus is this node's side of the election.
	VRRPStatus struct {
		ID                uint8   `json:"id"`
		Version           uint8   `json:"version"`
		Priority          uint8   `json:"priority"`
		EffectivePriority uint8   `json:"effective_priority"`
		AdvertiseMS       float64 `json:"advertise_ms"` // milliseconds
		Master            string  `json:"master"`       // node name, a foreign master's address, "" nobody
		Transitions       uint64  `json:"transitions"`
	}

	// AddressStatus is one virtual address of a lan or uplink.
	AddressStatus struct {
		Address netip.Prefix `json:"address"`
		Device  string       `json:"device"`
		Present bool         `json:"present"` // on this node's device
		HeldBy  string       `json:"held_by"` // node name, "" nobody that is known
	}

	// NodeStatus is one node of the file.
	NodeStatus struct {
		Name              string     `json:"name"`
		Address           netip.Addr `json:"address"`
		Alive             bool       `json:"alive"`
		Role              Role       `json:"role"`
		Priority          uint8      `json:"priority"`
		EffectivePriority *uint8     `json:"effective_priority"`
		ConfigHash        string     `json:"config_hash"` // "" not told
		Version           string     `json:"version"`     // "" not told
		Maintenance       bool       `json:"maintenance"`
		Held              bool       `json:"held"`            // master because an operator wants it there, until it fails or failover --auto
		Unfit             string     `json:"unfit,omitempty"` // why its check fails, "" it passes or there is none
		Since             *time.Time `json:"since"`           // of Role
		HeardMS           *int64     `json:"heard_ms"`        // milliseconds since the last word; 0 for the answering node
		Flows             *uint64    `json:"flows"`           // entries of its flow table
	}

	// UplinkStatus is one ISP line. State is the master's verdict, the node's
	// own where no master is heard.
	UplinkStatus struct {
		Name    string                      `json:"name"`
		ID      int                         `json:"id"`
		Device  string                      `json:"device"`
		State   balancer.Verdict            `json:"state"`
		Enabled bool                        `json:"enabled"` // false: disabled by hand
		Since   *time.Time                  `json:"since"`   // of State
		Share   float64                     `json:"share"`   // 0…1 of the default policy's slots
		RTTMS   *float64                    `json:"rtt_ms"`  // milliseconds
		Loss    *float64                    `json:"loss"`    // 0…1
		Flows   *uint64                     `json:"flows"`
		RxBPS   *uint64                     `json:"rx_bps"` // bits per second from the ISP
		TxBPS   *uint64                     `json:"tx_bps"` // bits per second to the ISP
		Views   map[string]balancer.Verdict `json:"views"`  // by node name
	}

	// PolicyStatus is one policy; Shares are 0…1 of its slots, by uplink. Does is
	// what it does instead of giving flows to uplinks, if anything: it "bypasses"
	// them, "passes" to the next policy, or "drops".
	PolicyStatus struct {
		Name   string             `json:"name"`
		Method string             `json:"method"`
		Shares map[string]float64 `json:"shares"`
		Does   string             `json:"does,omitempty"`
	}

	// SyncStatus is the replication of the flow table, one entry for each
	// other node.
	SyncStatus struct {
		Peers []SyncPeer `json:"peers"`
	}

	// SyncPeer is the session with one other node.
	SyncPeer struct {
		Name       string            `json:"name"`
		State      SyncState         `json:"state"`
		Progress   *float64          `json:"progress"` // 0…1 of a sync that is under way
		LagMS      *float64          `json:"lag_ms"`   // milliseconds
		FlowsHere  *uint64           `json:"flows_here"`
		FlowsThere *uint64           `json:"flows_there"`
		Resyncs    uint64            `json:"resyncs"`
		Dropped    map[string]uint64 `json:"dropped"` // by reason
	}

	// Repairs counts what another program took away and we put back.
	Repairs struct {
		Address uint64 `json:"address"`
		Rule    uint64 `json:"rule"`
		Route   uint64 `json:"route"`
		Table   uint64 `json:"table"`
		Sysctl  uint64 `json:"sysctl"`
	}

	// Drops counts what sockets and the firewall refused, by reason. The reasons that
	// DESIGN.md names are printed even where nothing was dropped.
	Drops struct {
		VRRP   map[string]uint64 `json:"vrrp"`
		Gossip map[string]uint64 `json:"gossip"`
		Sync   map[string]uint64 `json:"sync"`
		// Firewall counts packets that the kernel dropped, since its rules were written.
		Firewall map[string]uint64 `json:"firewall"`
	}

	// Alarm is something a person should look at.
	Alarm struct {
		Code    string    `json:"code"`
		Subject string    `json:"subject"`
		Since   time.Time `json:"since"`
		Text    string    `json:"text"`
	}
)

// SyncState is how far the flow table of a peer agrees with ours.
type SyncState string

const (
	SyncOff        SyncState = "off"
	SyncConnecting SyncState = "connecting"
	SyncSyncing    SyncState = "syncing"
	SyncSynced     SyncState = "synced"
	SyncStale      SyncState = "stale"
)

// MarshalJSON writes empty lists and maps as such, never as null, and the
// counters that a monitor may rely on also where they are 0.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status
	p := plain(s)
	p.VirtualAddresses = list(p.VirtualAddresses)
	p.Nodes = list(p.Nodes)
	p.Alarms = list(p.Alarms)
	p.Uplinks = append([]UplinkStatus{}, p.Uplinks...)
	for i := range p.Uplinks {
		p.Uplinks[i].Views = counters(p.Uplinks[i].Views)
	}
	p.Policies = append([]PolicyStatus{}, p.Policies...)
	for i := range p.Policies {
		p.Policies[i].Shares = counters(p.Policies[i].Shares)
	}
	p.ConntrackSync.Peers = append([]SyncPeer{}, p.ConntrackSync.Peers...)
	for i := range p.ConntrackSync.Peers {
		p.ConntrackSync.Peers[i].Dropped = counters(p.ConntrackSync.Peers[i].Dropped)
	}
	p.Drops.VRRP = counters(p.Drops.VRRP, "ttl", "checksum", "sender", "version", "length", "forged")
	p.Drops.Gossip = counters(p.Drops.Gossip, "key", "garbage")
	p.Drops.Sync = counters(p.Drops.Sync)
	p.Drops.Firewall = counters(p.Drops.Firewall)
	return json.Marshal(p)
}

// list returns s, or an empty list for none.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// counters returns a copy of m that holds all the names.
func counters[V any](m map[string]V, names ...string) map[string]V {
	all := make(map[string]V, len(m)+len(names))
	for _, n := range names {
		var zero V
		all[n] = zero
	}
	for n, v := range m {
		all[n] = v
	}
	return all
}
