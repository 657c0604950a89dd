package race

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"harouter/test/netlab"
)

// queued has first packets of TCP connections to this host wait in a queue, by the
// target of iptables, which kernels have more often than nft's own expression.
func queued(t *testing.T, num uint16) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := c.AddTable(&nftables.Table{Name: "test", Family: nftables.TableFamilyINet})
	chain := c.AddChain(&nftables.Chain{Name: "in", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	info := xt.Unknown(native.AppendUint16(native.AppendUint16(native.AppendUint16(nil, num), 1), 1))
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{2}},
		&expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info},
	}})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestQueue: a packet waits in the kernel until it is decided about; with nobody
// there, and with a queue that is full, it does not.
func TestQueue(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "ip link set lo up")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
		}
	}()
	dial := func() (time.Duration, error) {
		began := time.Now()
		c, err := net.DialTimeout("tcp4", l.Addr().String(), 5*time.Second)
		if err == nil {
			_ = c.Close()
		}
		return time.Since(began), err
	}
	opens := func(what string, least, most time.Duration) {
		t.Helper()
		if took, err := dial(); err != nil || took < least || took > most {
			t.Errorf("%s: open after %v, %v", what, took, err)
		}
	}
	queued(t, 7001)
	opens("nobody reads the queue", 0, 900*time.Millisecond)
	q, err := openQueue(7001, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openQueue(7001, 1); !errors.Is(err, unix.EPERM) {
		t.Errorf("a second reader: %v", err)
	}
	const waits = 200 * time.Millisecond
	decided := make(chan struct{})
	go func() {
		defer close(decided)
		packets, err := q.receive()
		if err != nil || len(packets) != 1 || packets[0].To.String() != l.Addr().String() {
			t.Errorf("waiting: %+v, %v", packets, err)
			return
		}
		<-time.After(waits) // by the clock of the kernel's TCP
		if err := q.decide(packets[0], verdictAccept); err != nil {
			t.Error(err)
		}
	}()
	opens("held", waits, waits+900*time.Millisecond)
	<-decided
	go func() { // the first is dropped, its repetition a second later goes
		for _, verdict := range []uint32{verdictDrop, verdictAccept} {
			packets, err := q.receive()
			if err != nil || len(packets) != 1 {
				t.Errorf("waiting: %+v, %v", packets, err)
				return
			}
			if err := q.decide(packets[0], verdict); err != nil {
				t.Error(err)
			}
		}
	}()
	opens("dropped, repeated", 900*time.Millisecond, 3*time.Second)
	// The reader goes while one waits: that one is dropped, the kernel's word. It
	// fills the queue, so that another goes on at once.
	first := make(chan struct{})
	go func() {
		defer close(first)
		opens("the reader dies", 900*time.Millisecond, 3*time.Second)
	}()
	if _, err := q.receive(); err != nil {
		t.Fatal(err)
	}
	opens("the queue is full", 0, 900*time.Millisecond)
	if err := q.close(); err != nil {
		t.Error(err)
	}
	<-first
	if _, err := q.receive(); err == nil {
		t.Error("it is closed, and can be read")
	}
	opens("after that", 0, 900*time.Millisecond)
}
