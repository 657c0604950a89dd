package config

import "time"

// All defaults of the file (DESIGN.md §3) are here and nowhere else.

func defaults() *Config {
	return &Config{
		VRRP: VRRP{
			ID:           51,
			Version:      3,
			Advertise:    100 * time.Millisecond,
			Preempt:      true,
			PreemptDelay: 10 * time.Second,
			Checksum:     ChecksumPseudo,
			Accept:       true,
			Check:        Check{Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
		},
		Balance: Balance{
			MarkMask:     0x3f00,
			TableBase:    7000,
			RulePriority: 7000,
			FlapHold:     FlapHold{Hold: 10 * time.Second, Max: 5 * time.Minute},
			ResetClients: true,
		},
		Firewall: Firewall{
			Enabled:   true,
			Log:       true,
			Antispoof: true,
			ICMPLimit: Rate{500, "second"},
			SYNLimit:  Rate{200, "second"},
			MSS:       MSSClamp,
		},
		ConntrackSync: ConntrackSync{
			Enabled:   true,
			Timeout:   time.Minute,
			Protocols: []string{"tcp", "udp", "icmp", "sctp", "gre"},
		},
		Hooks: Hooks{Directory: "hooks", Timeout: 30 * time.Second},
		Ports: Ports{Gossip: 7946, Sync: 7947},
		Log:   Log{Level: LevelInfo},
	}
}

// defaultAdvertise2 is vrrp.advertise where vrrp.version is 2.
const defaultAdvertise2 = time.Second

func defaultNode() Node { return Node{Priority: 100} }

// defaultLan: a lan speaks with the id of the election unless it has its own.
func defaultLan(v VRRP) Lan { return Lan{VRID: v.ID} }

func defaultUplink(v VRRP, place int) Uplink {
	return Uplink{
		ID:      place, // position in the file
		Gateway: Gateway{Kind: GatewayAuto},
		Weight:  1,
		Tier:    1,
		VRID:    v.ID,
		Probe: Probe{
			Method:   ProbeICMP,
			Interval: time.Second,
			Timeout:  800 * time.Millisecond,
			Fall:     3,
			Rise:     5,
			Quorum:   1,
		},
	}
}

// DefaultPolicy is the name of the policy that stands last, and is added where
// the file has none.
const DefaultPolicy = "default"

func defaultPolicy(name string) Policy {
	return Policy{
		Name:          name,
		Method:        MethodWeighted,
		Persistence:   Persistence{By: BySourceDestination, Timeout: 10 * time.Minute},
		Overflow:      Overflow{Enter: 0.9, Leave: 0.75, Hold: 5 * time.Second},
		LatencyMargin: LatencyMargin{Percent: 10, Time: 5 * time.Millisecond, Rounds: 3},
		Race:          RaceLearn,
		WhenNone:      NoneNext,
		OnRecovery:    RecoveryKeep,
	}
}
