package vip

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"harouter/test/netlab"
)

// wiretap collects the ARP frames that come out at the far end of a cable.
type wiretap struct {
	mu  sync.Mutex
	got []arp.Packet
	at  []time.Time
}

// tap listens on a device until the test ends.
func tap(t *testing.T, device string) *wiretap {
	t.Helper()
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	c, err := packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var f ethernet.Frame
			var p arp.Packet
			if f.UnmarshalBinary(buf[:n]) != nil || p.UnmarshalBinary(f.Payload) != nil {
				continue
			}
			if f.Destination.String() != ethernet.Broadcast.String() || f.Source.String() != p.SenderHardwareAddr.String() {
				continue // not one of ours: nobody answers here
			}
			w.mu.Lock()
			w.got, w.at = append(w.got, p), append(w.at, time.Now())
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-done })
	return w
}

func (w *wiretap) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.got)
}

func (w *wiretap) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got, w.at = nil, nil
}

// lines are the frames in words, each kind once.
func (w *wiretap) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, p := range w.got {
		op := map[arp.Operation]string{arp.OperationRequest: "request", arp.OperationReply: "reply"}[p.Operation]
		out = append(out, fmt.Sprintf("%s: %v at %v, for %v at %v", op, p.SenderIP, p.SenderHardwareAddr, p.TargetIP, p.TargetHardwareAddr))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// cable makes a device with a fixed Ethernet address; its far end is far-NAME.
func cable(t *testing.T, name string) {
	t.Helper()
	netlab.Sh(t, "ip link add "+name+" address 02:00:00:00:00:01 type veth peer name far-"+name+"; ip link set "+name+" up; ip link set far-"+name+" up")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
