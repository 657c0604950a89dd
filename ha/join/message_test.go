package join

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func testRequest() Request {
	return Request{
		Protocol: Protocol, Node: "r3", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("fd00::3")},
		Priority: 50, Devices: map[string]string{"cable": "enp3s0"}, Version: "1.2",
	}
}

func testBundle() Bundle {
	file := []byte("cluster: home\n")
	return Bundle{Cluster: "home", File: file, Key: []byte("key\n"), Generation: 7, Hash: Hash(file)}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestDecodeHello(t *testing.T) {
	want := hello{Secret: make([]byte, 16), Request: testRequest()}
	got, err := decodeHello(encode(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	const good = `"secret":"AAAAAAAAAAAAAAAAAAAAAA=="`
	for name, v := range map[string]struct{ in, want string }{
		"unknown fields":    {`{"protocol":1,"node":"r3","later":{"a":[1]},` + good + `}`, ""},
		"newer":             {`{"protocol":2,"node":7}`, "different versions of join, 1 and 2"},
		"no version":        {`{"node":"r3",` + good + `}`, "no protocol version"},
		"negative":          {`{"protocol":-1}`, "no protocol version"},
		"no JSON":           {`GET / HTTP/1.1`, "invalid character"},
		"a list":            {`[]`, "cannot unmarshal"},
		"short secret":      {`{"protocol":1,"node":"r3","secret":"AAAA"}`, "16 bytes, this one 3"},
		"no node":           {`{"protocol":1,` + good + `}`, "the node's name"},
		"node for the log":  {`{"protocol":1,"node":"r3\nrole=master",` + good + `}`, "the node's name"},
		"long node":         {`{"protocol":1,"node":"` + strings.Repeat("r", 64) + `",` + good + `}`, "the node's name"},
		"no address":        {`{"protocol":1,"node":"r3","addresses":["r3"],` + good + `}`, "unable to parse IP"},
		"priority too high": {`{"protocol":1,"node":"r3","priority":300,` + good + `}`, "cannot unmarshal"},
	} {
		_, err := decodeHello([]byte(v.in))
		if v.want == "" && err != nil || v.want != "" && (err == nil || !strings.Contains(err.Error(), v.want)) {
			t.Errorf("%s: error %v, want %q", name, err, v.want)
		}
	}
}

func TestDecodeAnswer(t *testing.T) {
	b := testBundle()
	want := answer{Protocol: 1, Bundle: &b}
	got, err := decodeAnswer(encode(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, v := range map[string]struct{ in, want, text string }{
		"error":          {`{"protocol":1,"error":"no"}`, "", "no"},
		"of a terminal":  {`{"protocol":1,"error":"a\u001b[2Jb\nc\u202e"}`, "", "a[2Jb c"},
		"long":           {`{"protocol":1,"error":"` + strings.Repeat("x", 5000) + `"}`, "", strings.Repeat("x", maxText) + "…"},
		"unknown fields": {`{"protocol":1,"error":"no","more":1}`, "", "no"},
		"newer":          {`{"protocol":9}`, "different versions of join, 1 and 9", ""},
		"neither":        {`{"protocol":1}`, "neither", ""},
		"both":           {`{"protocol":1,"error":"no","bundle":{}}`, "neither", ""},
		"empty":          {``, "unexpected end", ""},
	} {
		a, err := decodeAnswer([]byte(v.in))
		if v.want == "" && err != nil || v.want != "" && (err == nil || !strings.Contains(err.Error(), v.want)) || a.Error != v.text {
			t.Errorf("%s: %q, error %v, want %q and %q", name, a.Error, err, v.text, v.want)
		}
	}
}

func TestBundleCheck(t *testing.T) {
	for name, v := range map[string]struct {
		change func(*Bundle)
		want   string
	}{
		"good":          {func(*Bundle) {}, ""},
		"other file":    {func(b *Bundle) { b.File = []byte("cluster: lab\n") }, "does not have the hash"},
		"other hash":    {func(b *Bundle) { b.Hash = Hash(nil) }, "does not have the hash"},
		"no file":       {func(b *Bundle) { b.File, b.Hash = nil, Hash(nil) }, "missing"},
		"no key":        {func(b *Bundle) { b.Key = nil }, "missing"},
		"no generation": {func(b *Bundle) { b.Generation = 0 }, "missing"},
		"too large":     {func(b *Bundle) { b.Key = make([]byte, maxContent) }, "at most 1056768"},
	} {
		b := testBundle()
		v.change(&b)
		err := b.check()
		if v.want == "" && err != nil || v.want != "" && (err == nil || !strings.Contains(err.Error(), v.want)) {
			t.Errorf("%s: error %v, want %q", name, err, v.want)
		}
	}
	// The largest one that is allowed fits into a message.
	b := Bundle{Cluster: strings.Repeat("x", 32), File: make([]byte, 1<<20), Key: make([]byte, 8<<10), Generation: 1 << 63}
	b.Hash = Hash(b.File)
	if err := b.check(); err != nil {
		t.Fatal(err)
	}
	if err := writeFrame(io.Discard, answer{Protocol: 1, Bundle: &b}, maxBundle); err != nil {
		t.Error(err)
	}
}

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	if err := writeFrame(&b, []int{1, 2}, 10); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(b.Bytes())
	if raw, err := readFrame(&b, 5); err != nil || string(raw) != "[1,2]" {
		t.Errorf("%q, error %v", raw, err)
	}
	if err := writeFrame(&b, "too long", 9); !errors.Is(err, errTooLong{10, 9}) || b.Len() > 0 {
		t.Errorf("error %v, %d bytes written", err, b.Len())
	}
	for name, v := range map[string]struct {
		in   []byte
		want error
	}{
		"nothing":        {nil, io.EOF},
		"half a length":  {whole[:2], io.ErrUnexpectedEOF},
		"length alone":   {whole[:4], io.ErrUnexpectedEOF},
		"half a message": {whole[:6], io.ErrUnexpectedEOF},
		"too long":       {whole, errTooLong{5, 4}},
		"huge":           {binary.BigEndian.AppendUint32(nil, 1<<32-1), errTooLong{1<<32 - 1, 4}},
	} {
		most := 5
		if _, long := v.want.(errTooLong); long {
			most = 4
		}
		if _, err := readFrame(bytes.NewReader(v.in), most); !errors.Is(err, v.want) {
			t.Errorf("%s: error %v, want %v", name, err, v.want)
		}
	}
}

func FuzzDecodeHello(f *testing.F) {
	f.Add(encode(f, hello{Secret: make([]byte, 16), Request: testRequest()}))
	f.Add([]byte(`{"protocol":2}`))
	f.Add([]byte(`{"protocol":1,"PROTOCOL":1e3,"node":"r3"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := decodeHello(raw)
		if err != nil {
			return
		}
		again, err := decodeHello(encode(t, h))
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if diff := cmp.Diff(h, again, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	b := testBundle()
	f.Add(encode(f, answer{Protocol: 1, Bundle: &b}))
	f.Add(encode(f, answer{Protocol: 1, Error: "no"}))
	f.Add([]byte(`{"protocol":1,"error":"\u001b"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := decodeAnswer(raw)
		if err != nil {
			return
		}
		again, err := decodeAnswer(encode(t, a))
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if diff := cmp.Diff(a, again, cmpopts.EquateEmpty()); diff != "" && len([]rune(a.Error)) <= maxText {
			t.Error(diff)
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add([]byte{255, 255, 255, 255, '{'})
	f.Fuzz(func(t *testing.T, in []byte) {
		raw, err := readFrame(bytes.NewReader(in), 1000)
		if err == nil && (len(raw) > 1000 || !bytes.Equal(raw, in[4:4+len(raw)])) {
			t.Errorf("%d bytes of %d", len(raw), len(in))
		}
	})
}
