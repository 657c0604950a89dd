package guard

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = time.Millisecond

// site is a master's State; H is 150 ms, so the guard looks every 30 ms.
func site(holding, peerAlive bool) State {
	return State{
		Holding: holding, PeerAlive: peerAlive,
		Addresses: []Address{{Device: "lan0", Prefix: netip.MustParsePrefix("192.168.77.1/24")}},
		Farewell: []Frame{{
			Device: "lan0", TTL: 255, Payload: []byte{0x31, 51, 0, 1},
			Src: netip.MustParseAddr("192.168.77.2"), Dst: netip.MustParseAddr("224.0.0.18"),
		}},
		Devices: []string{"lan0"}, Local: netip.MustParseAddr("192.0.2.1"), VRID: 51,
		Senders: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.168.77.2"), netip.MustParseAddr("192.168.77.3")},
		Hang:    150 * ms,
	}
}

func advert(change func(*Heard)) heard {
	h := Heard{Src: netip.MustParseAddr("192.168.77.3"), TTL: 255, VRID: 51, Priority: 150}
	if change != nil {
		change(&h)
	}
	return heard{Heard: h}
}

func render(as []action) string {
	var words []string
	for _, a := range as {
		switch a := a.(type) {
		case remove:
			words = append(words, fmt.Sprintf("remove %d", len(a.Addresses)))
		case send:
			word := fmt.Sprintf("send %d", len(a.Frames))
			if len(a.Words) > 0 {
				word += fmt.Sprintf("+%d words", len(a.Words))
			}
			words = append(words, word)
		case answer:
			words = append(words, fmt.Sprintf("answer holding=%t", a.State.Holding))
		case exit:
			if a.Problem != nil {
				words = append(words, "exit: "+a.Problem.Error())
			} else {
				words = append(words, "exit")
			}
		default:
			words = append(words, strings.TrimPrefix(fmt.Sprintf("%T", a), "guard."))
		}
	}
	return strings.Join(words, ", ")
}

func TestMachine(t *testing.T) {
	type at struct {
		ms   int
		ev   event
		want string // actions
		next int    // ms of the deadline after it, 0 = none
	}
	state := func(holding, peer bool) event { return gotState{State: site(holding, peer)} }
	heir := site(true, true)
	heir.Words = []Word{{Source: heir.Local, To: netip.MustParseAddrPort("192.0.2.2:7946"), Bytes: []byte("sealed")}}
	sole := heir
	sole.OneHolder = true
	foreign := site(true, false)
	foreign.Foreign = true
	bad := errors.New("no such luck")
	tests := []struct {
		name  string
		steps []at
		phase phase
	}{
		{"a backup dies", []at{{1000, state(false, true), "", 0}, {1010, gone{}, "exit", 0}}, over},
		{"a daemon dies that never said anything", []at{{1000, gone{}, "exit", 0}}, over},
		{"a backup that hangs is nobody's business", []at{{1000, state(false, true), "", 0}, {9000, tick{}, "", 0}}, watching},
		{"the master dies, a peer lives", []at{
			{1000, state(true, true), "", 1030},
			{1010, gone{}, "remove 1, send 1", 1015},
			{1011, sent{}, "", 1015},
			{1012, removed{}, "", 1015},
			{1015, tick{}, "send 1", 1310},
			{1016, sent{}, "exit", 0},
		}, over},
		{"the successor is told when the addresses are gone", []at{
			{1000, gotState{State: heir}, "", 1030},
			{1010, gone{}, "remove 1, send 1", 1015},
			{1011, removed{}, "send 0+1 words", 1015},
			{1012, sent{}, "", 1015},
			{1013, sent{}, "", 1015},
			{1015, tick{}, "send 1+1 words", 1310},
			{1016, sent{}, "exit", 0},
		}, over},
		{"and not before", []at{
			{1000, gotState{State: heir}, "", 1030},
			{1010, gone{}, "remove 1, send 1", 1015},
			{1011, sent{}, "", 1015},
			{1012, removed{Err: bad}, "", 1015},
			{1015, tick{}, "send 1", 1017},
			{1016, sent{}, "", 1017},
			{1017, tick{}, "remove 1", 0},
			{1018, removed{}, "send 0+1 words", 1310},
			{1019, sent{}, "exit", 0},
		}, over},
		{"addresses with a MAC of their own: nobody is told before they are gone", []at{
			{1000, gotState{State: sole}, "", 1030},
			{1010, gone{}, "remove 1", 1015},
			{1015, tick{}, "", 0},
			{1018, removed{}, "send 1+1 words", 1310},
			{1019, sent{}, "exit", 0},
		}, over},
		{"and again as ever", []at{
			{1000, gotState{State: sole}, "", 1030},
			{1010, gone{}, "remove 1", 1015},
			{1012, removed{}, "send 1+1 words", 1015},
			{1013, sent{}, "", 1015},
			{1015, tick{}, "send 1+1 words", 1310},
			{1016, sent{}, "exit", 0},
		}, over},
		{"the farewell blocks, the word waits for it no longer than that", []at{
			{1000, gotState{State: heir}, "", 1030},
			{1010, gone{}, "remove 1, send 1", 1015},
			{1011, removed{}, "send 0+1 words", 1015},
			{1015, tick{}, "", 1310},
			{1310, tick{}, "exit", 0},
		}, over},
		{"the removal takes long, the farewells do not wait", []at{
			{1000, state(true, true), "", 1030},
			{1010, gone{}, "remove 1, send 1", 1015},
			{1011, sent{}, "", 1015},
			{1015, tick{}, "send 1", 0},
			{1016, sent{}, "", 0},
			{1200, removed{}, "exit", 0},
		}, over},
		{"the farewell blocks, the removal does not wait", []at{
			{1000, state(true, true), "", 1030},
			{1010, gone{}, "remove 1, send 1", 1015},
			{1011, removed{}, "", 1015},
			{1015, tick{}, "", 1310},
			{1310, tick{}, "exit", 0},
		}, over},
		{"a removal that fails is tried again, ever later", []at{
			{1000, state(true, true), "", 1030},
			{1010, gone{}, "remove 1, send 1", 1015},
			{1011, sent{Err: bad}, "", 1015},
			{1012, removed{Err: bad}, "", 1015},
			{1015, tick{}, "send 1", 1017},
			{1016, sent{}, "", 1017},
			{1017, tick{}, "remove 1", 0},
			{1018, removed{Err: bad}, "", 1028},
			{1028, tick{}, "remove 1", 0},
			{1029, removed{}, "exit", 0},
		}, over},
		{"killed: fenced before all threads are gone, and once more then", []at{
			{1000, state(true, true), "", 1030},
			{1010, dying{}, "remove 1, send 1", 1015},
			{1011, dying{}, "", 1015},
			{1011, removed{}, "", 1015}, {1011, sent{}, "", 1015}, {1015, tick{}, "send 1", 1310}, {1016, sent{}, "", 0},
			{1020, takeOver{}, "", 0},
			{1100, gone{}, "remove 1", 0},
			{1101, removed{}, "answer holding=false, exit", 0},
		}, over},
		{"killed: the last thread goes during the fence", []at{
			{1000, state(true, true), "", 1030},
			{1010, dying{}, "remove 1, send 1", 1015},
			{1011, gone{}, "", 1015},
			{1011, removed{}, "", 1015}, {1011, sent{}, "", 1015}, {1015, tick{}, "send 1", 1310},
			{1016, sent{}, "remove 1", 0},
			{1017, removed{}, "exit", 0},
		}, over},
		{"killed: a fence that cannot remove is not forgotten", []at{
			{1000, state(true, true), "", 1030},
			{1010, dying{}, "remove 1, send 1", 1015},
			{1011, gone{}, "", 1015},
			{1012, removed{Err: bad}, "", 1015}, {1012, sent{}, "", 1015}, {1015, tick{}, "send 1", 1017}, {1016, sent{}, "", 1017},
			{1017, tick{}, "remove 1", 0}, {1018, removed{}, "remove 1", 0}, {1019, removed{}, "exit", 0},
		}, over},
		{"killed: a State of its last moment counts", []at{
			{1000, state(true, true), "", 1030},
			{1010, dying{}, "remove 1, send 1", 1015},
			{1011, removed{}, "", 1015}, {1011, sent{}, "", 1015}, {1015, tick{}, "send 1", 1310}, {1016, sent{}, "", 0},
			{1020, state(true, true), "", 1050},
			{1021, gone{}, "remove 1, send 1", 1026},
		}, fencing},
		{"killed alone: nothing is urgent", []at{
			{1000, state(true, false), "", 1030}, {1010, dying{}, "", 1030}, {1011, gone{}, "listen", 0}, {1012, dying{}, "", 0},
		}, alone},
		{"killed beside a router that is not ours", []at{
			{1000, gotState{State: foreign}, "", 1030}, {1010, dying{}, "", 1030}, {1011, gone{}, "listen, send 1", 0}, {1012, sent{}, "", 0},
			{1080, advert(nil), "remove 1, unlisten", 0}, {1081, removed{}, "exit", 0},
		}, over},
		{"a hang beside a router that is not ours, which is not there", []at{
			{1000, gotState{State: foreign}, "", 1030}, {1030, tick{}, "", 1060}, {1060, tick{}, "", 1090}, {1090, tick{}, "", 1120}, {1120, tick{}, "", 1150},
			{1150, tick{}, "listen, send 1", 1180}, {1151, sent{}, "", 1180}, {1160, beat{1160 * ms}, "unlisten", 1190},
		}, watching},
		{"killed alone, the next daemon is already there", []at{
			{1000, state(true, false), "", 1030}, {1010, dying{}, "", 1030}, {1011, takeOver{}, "", 1030}, {1012, gone{}, "answer holding=true, exit", 0},
		}, over},
		{"no paths to say farewell on", []at{
			{1000, gotState{State: func() State { s := site(true, true); s.Farewell = nil; return s }()}, "", 1030},
			{1010, gone{}, "remove 1", 0},
			{1011, removed{}, "exit", 0},
		}, over},
		{"the master hangs, a peer lives; it comes back", []at{
			{1000, state(true, true), "", 1030},
			{1030, beat{1025 * ms}, "", 1030},
			{1030, tick{}, "", 1115},
			{1115, tick{}, "", 1145},
			{1145, tick{}, "", 1175},
			{1175, tick{}, "remove 1, send 1, tellFence", 1180},
			{1176, removed{}, "", 1180},
			{1177, sent{}, "", 1180},
			{1180, tick{}, "send 1", 1475},
			{1181, sent{}, "", 0},
			{2000, beat{2000 * ms}, "", 0},
			{2001, state(false, true), "", 0},
			{2010, state(true, true), "", 2040},
			{2020, gone{}, "remove 1, send 1", 2025},
		}, fencing},
		{"the fenced daemon dies", []at{
			{1000, state(true, true), "", 1030},
			{1040, tick{}, "", 1070}, {1075, tick{}, "", 1105}, {1105, tick{}, "", 1135}, {1135, tick{}, "", 1150},
			{1150, tick{}, "remove 1, send 1, tellFence", 1155},
			{1151, removed{}, "", 1155}, {1152, sent{}, "", 1155}, {1155, tick{}, "send 1", 1450}, {1156, sent{}, "", 0},
			{1500, gone{}, "exit", 0},
		}, over},
		{"the hanging daemon dies during the fence", []at{
			{1000, state(true, true), "", 1030},
			{1030, tick{}, "", 1060}, {1060, tick{}, "", 1090}, {1090, tick{}, "", 1120}, {1120, tick{}, "", 1150},
			{1150, tick{}, "remove 1, send 1, tellFence", 1155},
			{1151, gone{}, "", 1155}, {1152, removed{}, "", 1155}, {1153, sent{}, "", 1155}, {1155, tick{}, "send 1", 1450}, {1156, sent{}, "exit", 0},
		}, over},
		{"the hanging daemon returns during the fence and dies", []at{
			{1000, state(true, true), "", 1030},
			{1030, tick{}, "", 1060}, {1060, tick{}, "", 1090}, {1090, tick{}, "", 1120}, {1120, tick{}, "", 1150},
			{1150, tick{}, "remove 1, send 1, tellFence", 1155},
			{1151, state(true, true), "", 1155},
			{1152, gone{}, "", 1155}, {1152, removed{}, "", 1155}, {1153, sent{}, "", 1155}, {1155, tick{}, "send 1", 1450},
			{1156, sent{}, "remove 1, send 1", 1161},
		}, fencing},
		{"beats keep it quiet", []at{
			{1000, state(true, true), "", 1030},
			{1030, beat{1020 * ms}, "", 1030}, {1030, tick{}, "", 1110},
			{1110, beat{1100 * ms}, "", 1110}, {1110, tick{}, "", 1190},
			{1190, beat{1110 * ms}, "", 1190}, {1190, tick{}, "", 1220},
			{1220, beat{1220 * ms}, "", 1220}, {1220, tick{}, "", 1310},
		}, watching},
		{"a hang after a beat is seen as early as without", []at{
			{1000, state(true, true), "", 1030},
			{1030, beat{1030 * ms}, "", 1030}, {1030, tick{}, "", 1120},
			{1120, tick{}, "", 1150}, {1150, tick{}, "", 1180},
			{1180, tick{}, "remove 1, send 1, tellFence", 1185},
		}, fencing},
		{"the machine stood still until the guard looked: the daemon has two looks to beat", []at{
			{1000, state(true, true), "", 1030},
			{1030, beat{1030 * ms}, "", 1030}, {1030, tick{}, "", 1120},
			{1120, tick{}, "", 1150},
			{1150, beat{1149 * ms}, "", 1150}, {1150, tick{}, "", 1239},
		}, watching},
		{"and if that was too late for the guard too, the whole time again", []at{
			{1000, state(true, true), "", 1030},
			{1030, beat{1030 * ms}, "", 1030}, {1030, tick{}, "", 1120},
			{1170, tick{}, "", 1200}, {1200, tick{}, "", 1230},
			{1229, beat{1229 * ms}, "", 1230}, {1230, tick{}, "", 1319},
		}, watching},
		{"a beat of the future counts as one of now", []at{
			{1000, state(true, false), "", 1030},
			{1030, beat{time.Hour}, "", 1030}, {1030, tick{}, "", 1120}, {1120, tick{}, "", 1150}, {1150, tick{}, "", 1180}, {1180, tick{}, "listen", 1210},
		}, alone},
		{"the whole machine stood still for long", []at{
			{1000, state(true, true), "", 1030},
			{1030, tick{}, "", 1060},
			{9000, tick{}, "", 9030}, // one more H from now
			{9030, tick{}, "", 9060}, {9060, tick{}, "", 9090}, {9090, tick{}, "", 9120}, {9120, tick{}, "", 9150},
			{9150, tick{}, "remove 1, send 1, tellFence", 9155},
		}, fencing},
		{"the whole machine stood still for about H, between two looks", []at{
			{1000, state(true, true), "", 1030},
			{1020, beat{1020 * ms}, "", 1030},
			{1175, tick{}, "", 1205}, // beats could not come; 1170 is over
			{1190, beat{1190 * ms}, "", 1205},
			{1205, tick{}, "", 1280},
		}, watching},
		{"the guard overslept a little: that time does not count", []at{
			{1000, state(true, true), "", 1030},
			{1070, tick{}, "", 1100}, // 40 ms late
			{1100, tick{}, "", 1130}, {1130, tick{}, "", 1160}, {1160, tick{}, "", 1190},
			{1190, tick{}, "remove 1, send 1, tellFence", 1195},
		}, fencing},
		{"the lone master dies: the addresses stay until another is heard", []at{
			{1000, state(true, false), "", 1030},
			{1010, gone{}, "listen", 0},
			{5000, advert(func(h *Heard) { h.Priority = 0 }), "", 0},
			{5001, advert(func(h *Heard) { h.TTL = 254 }), "", 0},
			{5002, advert(func(h *Heard) { h.VRID = 52 }), "", 0},
			{5003, advert(func(h *Heard) { h.Drop = "checksum" }), "", 0},
			{5004, advert(func(h *Heard) { h.Src = netip.MustParseAddr("192.168.77.99") }), "", 0},
			{5005, advert(func(h *Heard) { h.Src = netip.MustParseAddr("192.168.77.2") }), "", 0}, // our own, on the lan
			{5006, advert(func(h *Heard) { h.Src = netip.MustParseAddr("192.0.2.1") }), "", 0},    // our own, local
			{5007, advert(func(h *Heard) { h.Src = netip.Addr{} }), "", 0},
			{5010, advert(func(h *Heard) { h.Priority = 1 }), "remove 1, unlisten", 0},
			{5011, removed{}, "exit", 0},
		}, over},
		{"the lone master dies, and the lan has a number of its own", []at{
			{1000, gotState{State: func() State { s := site(true, false); s.VRIDs = map[string]uint8{"lan0": 52}; return s }()}, "", 1030},
			{1010, gone{}, "listen", 0},
			{5000, advert(func(h *Heard) { h.Device = "lan0" }), "", 0},
			{5001, advert(func(h *Heard) { h.VRID = 52 }), "", 0}, // unicast
			{5002, advert(func(h *Heard) { h.Device, h.VRID = "lan0", 52 }), "remove 1, unlisten", 0},
			{5003, removed{}, "exit", 0},
		}, over},
		{"the lone master dies, and its lan has IPv6", []at{
			{1000, gotState{State: func() State {
				s := site(true, false)
				s.Farewell = append(s.Farewell, Frame{Device: "lan0", Src: netip.MustParseAddr("fe80::2"), Dst: netip.MustParseAddr("ff02::12")})
				s.Senders = append(s.Senders, netip.MustParseAddr("fe80::2"), netip.MustParseAddr("fe80::3"))
				return s
			}()}, "", 1030},
			{1010, gone{}, "listen", 0},
			{5000, advert(func(h *Heard) { h.Device, h.Src = "lan0", netip.MustParseAddr("fe80::2") }), "", 0}, // our own
			{5001, advert(func(h *Heard) { h.Device, h.Src = "lan0", netip.MustParseAddr("fe80::9") }), "", 0},
			{5002, advert(func(h *Heard) { h.Device, h.Src = "lan0", netip.MustParseAddr("fe80::3%lan0") }), "remove 1, unlisten", 0},
			{5003, removed{}, "exit", 0},
		}, over},
		{"an advert while the daemon lives is the daemon's business", []at{
			{1000, state(true, false), "", 1030}, {1001, advert(nil), "", 1030},
		}, watching},
		{"the lone master hangs and comes back by a beat", []at{
			{1000, state(true, false), "", 1030},
			{1030, tick{}, "", 1060}, {1060, tick{}, "", 1090}, {1090, tick{}, "", 1120}, {1120, tick{}, "", 1150},
			{1150, tick{}, "listen", 1180}, {1180, tick{}, "", 1210},
			{1900, beat{1890 * ms}, "unlisten", 1930},
			{1930, tick{}, "", 1980},
		}, watching},
		{"the lone master hangs and comes back by a State", []at{
			{1000, state(true, false), "", 1030},
			{1030, tick{}, "", 1060}, {1060, tick{}, "", 1090}, {1090, tick{}, "", 1120}, {1120, tick{}, "", 1150},
			{1150, tick{}, "listen", 1180},
			{1900, state(true, true), "unlisten", 1930},
		}, watching},
		{"the lone master hangs, another is heard", []at{
			{1000, state(true, false), "", 1030},
			{1030, tick{}, "", 1060}, {1060, tick{}, "", 1090}, {1090, tick{}, "", 1120}, {1120, tick{}, "", 1150},
			{1150, tick{}, "listen", 1180},
			{1900, advert(nil), "remove 1, unlisten, tellFence", 0},
			{1901, removed{}, "", 0},
			{1950, beat{1950 * ms}, "", 0},
			{1960, state(false, true), "", 0},
		}, watching},
		{"the lone master hangs, then dies", []at{
			{1000, state(true, false), "", 1030},
			{1030, tick{}, "", 1060}, {1060, tick{}, "", 1090}, {1090, tick{}, "", 1120}, {1120, tick{}, "", 1150},
			{1150, tick{}, "listen", 1180},
			{1900, gone{}, "", 0},
			{1950, advert(nil), "remove 1, unlisten", 0},
			{1951, removed{}, "exit", 0},
		}, over},
		{"retired", []at{{1000, state(true, true), "", 1030}, {1010, retire{}, "exit", 0}}, over},
		{"retired during a fence", []at{
			{1000, state(true, true), "", 1030}, {1030, tick{}, "", 1060}, {1060, tick{}, "", 1090}, {1090, tick{}, "", 1120}, {1120, tick{}, "", 1150},
			{1150, tick{}, "remove 1, send 1, tellFence", 1155},
			{1151, retire{}, "", 1155}, {1151, removed{}, "", 1155}, {1151, sent{}, "", 1155}, {1155, tick{}, "send 1", 1450}, {1156, sent{}, "exit", 0},
		}, over},
		{"released, daemon gone, another heard", []at{
			{1000, state(true, false), "", 1030},
			{1010, release{}, "tellLeft, listen", 0},
			{1011, state(false, false), "", 0}, // no longer counts
			{1020, gone{}, "", 0},
			{5000, advert(nil), "remove 1, unlisten", 0},
			{5001, removed{}, "exit", 0},
		}, over},
		{"released counts also where the State still says that a peer lives", []at{
			{1000, state(true, true), "", 1030}, {1010, release{}, "tellLeft, listen", 0}, {1020, gone{}, "", 0},
		}, alone},
		{"released with nothing to hold", []at{{1000, state(false, true), "", 0}, {1010, release{}, "tellLeft, exit", 0}}, over},
		{"takeover while alone", []at{
			{1000, state(true, false), "", 1030}, {1010, gone{}, "listen", 0},
			{1500, takeOver{}, "unlisten, answer holding=true, exit", 0},
		}, over},
		{"takeover during the fence waits for its end", []at{
			{1000, state(true, true), "", 1030},
			{1010, gone{}, "remove 1, send 1", 1015},
			{1011, takeOver{}, "", 1015},
			{1012, removed{}, "", 1015}, {1012, sent{}, "", 1015}, {1015, tick{}, "send 1", 1310},
			{1016, sent{}, "answer holding=false, exit", 0},
		}, over},
		{"takeover from a living or hanging daemon is refused", []at{
			{1000, state(true, false), "", 1030}, {1001, takeOver{}, "refuse", 1030},
			{1030, tick{}, "", 1060}, {1060, tick{}, "", 1090}, {1090, tick{}, "", 1120}, {1120, tick{}, "", 1150},
			{1150, tick{}, "listen", 1180}, {1160, takeOver{}, "refuse", 1180},
		}, alone},
		{"SIGTERM is for the time after the daemon", []at{
			{1000, state(true, false), "", 1030}, {1010, told{}, "", 1030}, {1020, gone{}, "exit", 0},
		}, over},
		{"SIGTERM does not keep it from fencing", []at{
			{1000, state(true, true), "", 1030}, {1010, told{}, "", 1030}, {1020, gone{}, "remove 1, send 1", 1025},
		}, fencing},
		{"SIGTERM while alone: the addresses stay", []at{
			{1000, state(true, false), "", 1030}, {1010, gone{}, "listen", 0}, {1020, told{}, "unlisten, exit", 0}, {1030, advert(nil), "", 0},
		}, over},
		{"no watch for a hang where there is no H", []at{
			{1000, gotState{State: func() State { s := site(true, true); s.Hang = 0; return s }()}, "", 0},
			{9000, tick{}, "", 0}, {9010, gone{}, "remove 1, send 1", 9015},
		}, fencing},
		{"an absurd H", []at{
			{1000, gotState{State: func() State { s := site(true, true); s.Hang = 1<<63 - 1; return s }()}, "", 721000}, {1010, tick{}, "", 721000},
		}, watching},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m machine
			for i, s := range tt.steps {
				got := render(m.step(time.Duration(s.ms)*ms, s.ev))
				if diff := cmp.Diff(s.want, got); diff != "" {
					t.Fatalf("step %d, %d ms, %v (-want +got):\n%s", i, s.ms, s.ev, diff)
				}
				next := 0
				if d, ok := m.deadline(); ok {
					next = int(d / ms)
				}
				if next != s.next {
					t.Fatalf("step %d, %d ms, %v: next deadline %d ms, want %d", i, s.ms, s.ev, next, s.next)
				}
			}
			if m.phase != tt.phase {
				t.Fatalf("ends %v, want %v", m.phase, tt.phase)
			}
		})
	}
}

func TestMachineGivesUpOnARemovalThatNeverWorks(t *testing.T) {
	var m machine
	now := time.Second
	m.step(now, gotState{State: site(true, true)})
	m.step(now, gone{})
	m.step(now, sent{})
	tries, begun := 1, now
	for m.phase != over {
		as := m.step(now, removed{Err: errors.New("operation not permitted")})
		for m.phase != over {
			var ok bool
			if now, ok = m.deadline(); !ok {
				break
			}
			as = m.step(now, tick{})
			if strings.Contains(render(as), "send") {
				m.step(now, sent{})
			}
			if strings.Contains(render(as), "remove") {
				tries++
				break
			}
		}
		if m.phase == over && !strings.Contains(render(as), "exit: remove the addresses, 64 times: operation not permitted") {
			t.Fatalf("last actions: %s", render(as))
		}
	}
	if tries != removeTries || now-begun > 70*time.Second {
		t.Fatalf("%d tries in %v, want %d in about a minute", tries, now-begun, removeTries)
	}
}
