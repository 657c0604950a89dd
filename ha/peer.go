package ha

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"harouter/balancer"
)

// Role is what a node is at the moment, as DESIGN.md §2 names it.
type Role uint8

const (
	RoleUnknown Role = iota
	RoleMaster
	RoleBackup
	RoleFault
)

var roleNames = [...]string{RoleUnknown: "unknown", RoleMaster: "master", RoleBackup: "backup", RoleFault: "fault"}

func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// MarshalText writes the word of String.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText writes; a word that this version does
// not know is RoleUnknown, since a newer node may say it.
func (r *Role) UnmarshalText(b []byte) error {
	*r = RoleUnknown
	if i := slices.Index(roleNames[:], string(b)); i > 0 {
		*r = Role(i)
	}
	return nil
}

// UplinkView is what one node sees of one uplink.
type UplinkView struct {
	Name     string           `json:"name"`
	Verdict  balancer.Verdict `json:"verdict"`
	Since    time.Time        `json:"since"`
	RTT      time.Duration    `json:"rtt,omitempty"` // 0: not measured
	Loss     float64          `json:"loss"`          // 0…1 of the last rounds
	Measured bool             `json:"measured,omitempty"`
	Failing  bool             `json:"failing,omitempty"` // the last round was bad
	Held     bool             `json:"held,omitempty"`    // down only for having flapped
}

// PeerState is what each node tells the others over gossip: newest wins.
type PeerState struct {
	Node      string                      `json:"node"`
	Version   string                      `json:"version"`
	Role      Role                        `json:"role"`
	Since     time.Time                   `json:"since"`
	Priority  uint8                       `json:"priority"`
	Effective uint8                       `json:"effective"`
	Hash      string                      `json:"config_hash"`
	PlanHash  string                      `json:"plan_hash"`
	Master    string                      `json:"master"` // whom it takes for the master
	Held      bool                        `json:"held,omitempty"`
	Leaving   bool                        `json:"leaving,omitempty"`
	Resting   bool                        `json:"maintenance,omitempty"`
	Starting  bool                        `json:"starting,omitempty"`  // within startFor of its start
	FileHash  string                      `json:"file_hash,omitempty"` // of the file on its disk, where that is another
	Trial     bool                        `json:"trial,omitempty"`     // Generation is not kept yet
	Will      []byte                      `json:"will,omitempty"`      // master: proof of what its guard would say
	Offer     uint64                      `json:"offer,omitempty"`     // of a file that it asks all to adopt
	Gen       uint64                      `json:"generation,omitempty"`
	Members   map[string]netip.Addr       `json:"members,omitempty"`   // nodes of its file, with their first addresses
	Sync      bool                        `json:"sync,omitempty"`      // it replicates flows
	Term      uint64                      `json:"term,omitempty"`      // in which it was master last
	Lans      int                         `json:"lans"`                // lans whose link carries
	Unfit     string                      `json:"unfit,omitempty"`     // why its check fails
	Unsure    bool                        `json:"unsure,omitempty"`    // its check may fail any moment
	DeadLans  int                         `json:"dead_lans,omitempty"` // lans whose link does not
	Life      uint64                      `json:"life,omitempty"`      // of this process
	Number    uint64                      `json:"number,omitempty"`    // of this state in it: a later one is newer
	Greets    bool                        `json:"greets,omitempty"`    // it greets the others on each lan
	Down      []string                    `json:"down,omitempty"`      // lans whose link does not carry
	Deaf      []string                    `json:"deaf,omitempty"`      // lans on which it does not hear a node that is alive
	Reach     map[string]Reach            `json:"reach,omitempty"`     // of lans on which somebody is not heard
	Hosts     map[string][]netip.Addr     `json:"hosts,omitempty"`     // seen last on each lan
	Addresses []netip.Addr                `json:"addresses"`
	Uplinks   []UplinkView                `json:"uplinks"`
	Pool      []string                    `json:"pool"`     // master: uplinks that get new flows
	Verdicts  map[string]balancer.Verdict `json:"verdicts"` // master: its word

	// Shares are those of policies that go by what is measured: the master
	// decides them, the others tell what they follow. A later epoch is newer.
	Shares     balancer.Shares   `json:"shares,omitempty"`
	ShareEpoch uint64            `json:"share_epoch,omitempty"`
	Switches   map[string]Switch `json:"switches,omitempty"` // what operators said of uplinks
}

// peer is what this node knows of another.
type peer struct {
	Node
	state     PeerState
	guest     bool      // the file does not have it yet: see meet
	told      bool      // state is of its present life
	heard     time.Time // last sign of life on any path
	present   bool      // it was alive when last looked at
	worded    time.Time // last authenticated word, over gossip
	doubt     doubt
	lately    mastership
	handover  uint64 // id of the last that it asked for
	cancelled uint64 // and of the last that it gave up
	addresses []netip.Addr
	unlike    time.Time // since when it runs another file; zero: it runs the same
	alike     time.Time // when that ended last
	unsynced  time.Time // since when it is alive and its flow table does not agree
	// unconfirmed is when it did not confirm the flows for the hand-over to it.
	unconfirmed time.Time
	ways        ways
	left        bool                  // its last advert said farewell
	inquiry     inquiry               // whether it is still master
	executed    []byte                // the proof of its will that was taken last
	settling    bool                  // one of both has just taken a new file
	refiled     time.Time             // when it was heard to run another file than before
	advertised  time.Time             // last advert of it
	at          map[string]netip.Addr // source of its adverts on each link
	pause       pause                 // of its machine
	sight       sight                 // of uplinks that just died here
}

func (p *peer) alive(now time.Time) bool {
	return !p.heard.IsZero() && now.Sub(p.heard) < aliveFor
}

// canServe tells whether the peer may become master now.
func (p *peer) canServe(now time.Time) bool {
	return p.alive(now) && p.told && p.state.Role != RoleFault && p.state.Role != RoleUnknown && !p.state.Leaving
}
