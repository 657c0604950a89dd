package peer

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for name, v := range map[string]struct {
		raw  []byte
		size int
		err  string
	}{
		"nothing":            {nil, 0, ""},
		"part of a header":   {[]byte{byte(kindData), 0, 0}, 0, ""},
		"part of a frame":    {[]byte{byte(kindData), 0, 0, 2, 'x'}, 0, ""},
		"a frame":            {[]byte{byte(kindData), 0, 0, 2, 'x', 'y', 'z'}, 6, ""},
		"an empty one":       {[]byte{byte(kindUrgent), 0, 0, 0}, 4, ""},
		"the largest":        {appendFrame(nil, kindData, make([]byte, MaxFrame)), recordSize, ""},
		"one too large":      {[]byte{byte(kindData), 0, 0x40, 0}, 0, "kind 3 with 16384 bytes, allowed: 0 to 16380"},
		"of 16 MB":           {[]byte{byte(kindUrgent), 0xff, 0xff, 0xff}, 0, "with 16777215 bytes"},
		"kind 0":             {make([]byte, 4), 0, "a frame of kind 0, which does not exist"},
		"text":               {[]byte("GET / HTTP/1.1"), 0, "a frame of kind 71"},
		"a short number":     {[]byte{byte(kindCredit), 0, 0, 7}, 0, "with 7 bytes, allowed: 8 to 8"},
		"a number":           {appendNumber(nil, kindMark, 1<<40), 12, ""},
		"a go with a load":   {appendFrame(nil, kindGo, []byte{1}), 0, "with 1 bytes"},
		"a bye without word": {appendFrame(nil, kindBye, nil), 0, "with 0 bytes"},
		"a hello of later":   {appendFrame(nil, kindHello, make([]byte, 100)), 104, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, size, err := parse(v.raw)
			if size != v.size || (err != nil) != (v.err != "") || err != nil && !strings.Contains(err.Error(), v.err) {
				t.Errorf("size %d, error %v", size, err)
			}
		})
	}
}

func TestAgree(t *testing.T) {
	for name, v := range map[string]struct {
		ours, theirs hello
		version      uint16
		err          string
	}{
		"equal":       {hello{1, 1, 1}, hello{1, 1, 1}, 1, ""},
		"both know 2": {hello{3, 2, 1}, hello{2, 1, 1}, 2, ""},
		"newer":       {hello{1, 1, 1}, hello{3, 2, 2}, 0, "r2 speaks version 2 to 3 of the state sync, this node 1 to 1: install the newer harouter on this node"},
		"older":       {hello{3, 2, 1}, hello{1, 1, 1}, 0, "install the newer harouter on r2"},
		"newer frames": {hello{1, 1, 1}, hello{1, 1, 2}, 0,
			"r2 tells its connections in version 2, this node in version 1: install the newer harouter on this node"},
		"older frames": {hello{1, 1, 2}, hello{1, 1, 0}, 0, "install the newer harouter on r2"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := v.ours.agree("r2", v.theirs)
			if got != v.version || (err != nil) != (v.err != "") {
				t.Errorf("version %d, error %v", got, err)
			}
			if err != nil {
				wantError(t, err, v.err)
				if f := faultOf(err, ReasonLost); f.reason != ReasonVersion {
					t.Errorf("reason %s", f.reason)
				}
			}
		})
	}
}

// FuzzParse: a frame that is accepted is the same when it is written again.
func FuzzParse(f *testing.F) {
	f.Add(appendFrame(nil, kindData, []byte("flow")))
	f.Add(appendNumber(nil, kindCredit, 1<<63))
	f.Add(appendFrame(nil, kindHello, hello{2, 1, 1}.encode()))
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, payload, size, err := parse(raw)
		if err != nil || size == 0 {
			return
		}
		if diff := cmp.Diff(raw[:size], appendFrame(nil, k, payload)); diff != "" {
			t.Error(diff)
		}
		if k == kindHello {
			if h, err := decodeHello(payload); err == nil && !bytes.HasPrefix(payload, h.encode()) {
				t.Errorf("%+v of %x", h, payload)
			}
		}
	})
}

// FuzzSession: whatever an authentic peer says, a session does not crash, and
// does not hold more than it granted.
func FuzzSession(f *testing.F) {
	var talk []byte
	for _, k := range []kind{kindPing, kindPong, kindMark, kindDone, kindCredit} {
		talk = appendNumber(talk, k, 1)
	}
	f.Add(talk)
	f.Add(appendNumber(appendFrame(appendFrame(nil, kindData, []byte("x")), kindUrgent, nil), kindMark, 1<<63))
	f.Add(appendFrame(nil, kindBye, []byte{9}))
	f.Add(appendFrame(nil, kindHello, hello{1, 1, 0}.encode()))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := newSession(&stream{}, DefaultQueue)
		s.out.reopen()
		s.out.send(kindData, []byte("one"))
		s.out.barrier(time.Now())
		s.out.record(nil)
		for len(raw) > 0 {
			n := copy(s.buf[s.w:], raw)
			s.w += n
			raw = raw[n:]
			if err := s.sort(); err != nil {
				return
			}
			if n == 0 {
				t.Fatal("nothing is taken from a full buffer")
			}
			s.w = copy(s.buf[:], s.buf[s.r:s.w])
			s.r = 0
		}
		d := delivery{session: s, handler: &recorder{}}
		d.overtake()
		d.bulk(s.in.take(nil))
		if s.out.handled > s.out.sent {
			t.Error("credit for what was not sent")
		}
	})
}

// TestOutboxOrder: what one record after the other holds.
func TestOutboxOrder(t *testing.T) {
	now := time.Unix(1e9, 0)
	o := newOutbox(1<<20, true)
	if o.send(kindData, nil) != sentNo {
		t.Error("it took a frame before it was opened")
	}
	o.reopen()
	o.send(kindData, []byte("a"))
	o.send(kindUrgent, []byte("u"))
	o.send(kindData, []byte("b"))
	reached, err := o.barrier(now)
	if err != nil {
		t.Fatal(err)
	}
	o.nextBeat = now.Add(beatEvery)
	o.pinged(7, now, 0)
	o.pinged(8, now, 0) // makes the other one superfluous
	o.control(kindCredit, 100)
	record, last := o.record(nil)
	want := []string{"go", "pong 8", "credit 100", "urgent u", "data a", "data b", "mark 1"}
	if diff := cmp.Diff(want, tell(t, record)); diff != "" || last {
		t.Error(diff, last)
	}
	if record, _ := o.record(nil); len(record) > 0 {
		t.Errorf("and then %v", tell(t, record))
	}
	o.reached(0, now)
	select {
	case <-reached:
		t.Error("the barrier ended too early")
	default:
	}
	o.reached(1, now.Add(time.Second))
	if err := <-reached; err != nil {
		t.Error(err)
	}
	if l := o.lag(now); l.Behind != time.Second {
		t.Errorf("lag %+v", l)
	}
	o.send(kindData, []byte("too late"))
	o.close(byeLeaving)
	if o.reopen(); o.send(kindData, nil) != sentNo {
		t.Error("it takes frames after its end")
	}
	record, last = o.record(nil)
	if diff := cmp.Diff([]string{"bye"}, tell(t, record)); diff != "" || !last {
		t.Error(diff, last)
	}
}

// TestOutboxBeat: an own beat goes with the answer to the other side's, unless
// there was one a moment ago.
func TestOutboxBeat(t *testing.T) {
	begin := time.Unix(1e9, 0)
	for _, c := range []struct {
		name  string
		after time.Duration
		want  []string
		next  time.Duration
	}{
		{"a moment after the own", 100 * time.Millisecond, []string{"pong 7"}, beatEvery - 100*time.Millisecond},
		{"later", 300 * time.Millisecond, []string{"pong 7", "ping 300000000", "mark 2"}, beatEvery * 7 / 6},
		{"when it is overdue", time.Second, []string{"pong 7", "ping 1000000000", "mark 2"}, beatEvery * 7 / 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOutbox(1<<20, false)
			o.reopen()
			o.beat(begin, 0)
			o.record(nil)
			now := begin.Add(c.after)
			o.pinged(7, now, c.after)
			record, _ := o.record(nil)
			if diff := cmp.Diff(c.want, tell(t, record)); diff != "" {
				t.Error(diff)
			}
			if next := o.untilBeat(now); next != c.next {
				t.Errorf("the next is due in %v, want %v", next, c.next)
			}
		})
	}
}

// TestOutboxCredit: no more than the window is on the way; urgent frames have a
// reserve.
func TestOutboxCredit(t *testing.T) {
	o := newOutbox(8<<20, false)
	o.reopen()
	for range 500 {
		o.send(kindData, make([]byte, 10_000))
	}
	drain := func() (n int) {
		for {
			r, _ := o.record(nil)
			if len(r) == 0 {
				return n
			}
			n += len(r)
		}
	}
	if n := drain(); n > window || n < window-recordSize {
		t.Errorf("%d bytes without credit", n)
	}
	if drain() > 0 {
		t.Error("and more")
	}
	o.send(kindUrgent, []byte("u"))
	if n := drain(); n != headerSize+1 {
		t.Errorf("%d bytes of an urgent frame", n)
	}
	if o.granted(window / 2); o.sent == 0 || drain() < window/2-2*recordSize {
		t.Error("credit did not help")
	}
	if o.granted(2*window) || !o.granted(0) {
		t.Error("credit for what was not sent, or an old one")
	}
}

// TestInboxBound: a peer that does not heed its credit.
func TestInboxBound(t *testing.T) {
	i := newInbox()
	n := 0
	for i.put(false, make([]byte, 10_000)) {
		n += 10_000
	}
	if n > window+urgentReserve || n < window {
		t.Errorf("it took %d bytes", n)
	}
	i.take(nil)
	if i.put(true, make([]byte, 10_000)) {
		t.Error("it takes more before that was handled")
	}
	i.release(100_000)
	if !i.put(true, make([]byte, 10_000)) {
		t.Error("it takes nothing after that was handled")
	}
}

func tell(t *testing.T, record []byte) (all []string) {
	t.Helper()
	names := map[kind]string{kindGo: "go", kindBye: "bye", kindPong: "pong", kindPing: "ping", kindCredit: "credit", kindUrgent: "urgent", kindData: "data", kindMark: "mark"}
	for len(record) > 0 {
		k, payload, size, err := parse(record)
		if err != nil || size == 0 {
			t.Fatalf("%x: %v", record, err)
		}
		record = record[size:]
		s := names[k]
		switch k {
		case kindPing, kindPong, kindCredit, kindMark:
			s = fmt.Sprint(s, " ", numberOf(payload))
		case kindData, kindUrgent:
			s += " " + string(payload)
		}
		all = append(all, s)
	}
	return all
}

// fake is a stream to a node at w that says what it likes.
func fake(t *testing.T, cfg Config, w way, raw net.Conn) *stream {
	t.Helper()
	cfg.Handler = &recorder{}
	r, err := newRoster(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for node, list := range cfg.Peers {
		for _, a := range list {
			if a == w.remote {
				raw.SetDeadline(time.Now().Add(5 * time.Second))
				return newClient(r, node, raw, w)
			}
		}
	}
	t.Fatalf("nobody is at %v", w.remote)
	return nil
}

func handshake(st *stream) error { return st.conn.HandshakeContext(context.Background()) }
