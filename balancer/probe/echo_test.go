package probe

import (
	"bytes"
	"testing"
)

// replyTo is what a host would answer to a request.
func replyTo(request []byte, v6 bool) []byte {
	b := bytes.Clone(request)
	if v6 {
		b[0] = echoReply6
		return b
	}
	b[0] = echoReply4
	return append(append([]byte{0x45}, make([]byte, ipv4Head-1)...), b...)
}

func TestEcho(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		e, other := newEcho(v6), newEcho(v6)
		good := replyTo(e.request(), v6)
		change := func(f func([]byte)) []byte {
			b := bytes.Clone(good)
			f(b)
			return b
		}
		head := len(good) - len(e.request())
		withOptions := good
		if !v6 {
			withOptions = append(append([]byte{0x47}, make([]byte, ipv4Head+8-1)...), good[head:]...)
		}
		for _, c := range []struct {
			name string
			b    []byte
			want bool
		}{
			{"the reply", good, true},
			{"with IP options", withOptions, true},
			{"with more behind it", append(bytes.Clone(good), 1, 2, 3), true},
			{"of another round", replyTo(other.request(), v6), false},
			{"the request", append(bytes.Clone(good[:head]), e.request()...), false},
			{"another number", change(func(b []byte) { b[head+4] ^= 1 }), false},
			{"another content", change(func(b []byte) { b[len(b)-1] ^= 1 }), false},
			{"another code", change(func(b []byte) { b[head+1] = 1 }), false},
			{"cut off", good[:len(good)-1], false},
			{"nothing", nil, false},
		} {
			if got := e.answeredBy(c.b); got != c.want {
				t.Errorf("v6 %t, %s: %t, want %t", v6, c.name, got, c.want)
			}
		}
	}
	if sum := checksum(newEcho(false).request()); sum != 0 {
		t.Errorf("the checksum is off by %#x", sum)
	}
}

// FuzzEcho: whatever comes, it does not fall over, and only the reply counts.
func FuzzEcho(f *testing.F) {
	e4, e6 := newEcho(false), newEcho(true)
	f.Add([]byte{})
	f.Add([]byte{0x4f, 1, 2})
	f.Add(replyTo(e4.request(), false))
	f.Add(replyTo(e6.request(), true))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e4.answeredBy(b) && !bytes.Contains(b, e4.nonce[:]) || e6.answeredBy(b) && !bytes.Contains(b, e6.nonce[:]) {
			t.Errorf("%x counts", b)
		}
	})
}
