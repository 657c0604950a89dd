package join

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testTicket() Ticket {
	var t Ticket
	for i := range t.pin {
		t.pin[i], t.secret[i] = byte(i), byte(0xf0+i)
	}
	return t
}

func TestTicketWord(t *testing.T) {
	want := testTicket()
	word := want.Word()
	if len(word) != 62 || ticketSize != 62 || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		t.Errorf("%q is no word of 62 characters", word)
	}
	for name, written := range map[string]string{
		"as printed": word, "in capitals": strings.ToUpper(word), "with a line end": "  " + word + "\r\n",
	} {
		got, err := ParseTicket(written)
		if err != nil || got != want {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestParseTicketRefuses(t *testing.T) {
	word := testTicket().Word()
	mistyped := func(i int) string {
		c := byte('a')
		if word[i] == c {
			c = 'b'
		}
		return word[:i] + string(c) + word[i+1:]
	}
	for name, v := range map[string]struct{ word, want string }{
		"empty":              {" \n", "the ticket is empty"},
		"cut off":            {word[:61], "cut off: it has 61 characters of 62"},
		"cut after the mark": {word[:4], "cut off: it has 4 characters of 62"},
		"two in a row":       {word + word, "the ticket has 124 characters, 62 are right"},
		"first mistyped":     {mistyped(4), "mistyped"},
		"middle mistyped":    {mistyped(30), "mistyped"},
		"last mistyped":      {word[:61] + "b", "mistyped"},
		"two swapped":        {word[:10] + word[11:12] + word[10:11] + word[12:], "mistyped"},
		"foreign letter":     {word[:20] + "1" + word[21:], "mistyped"},
		"of the future":      {"hj2" + word[3:], "the ticket is of version 2, this harouter knows version 1"},
		"something else":     {"swordfish", "this is no ticket: one begins with hj1_"},
		"an address":         {"192.0.2.1", "this is no ticket"},
		"no number":          {"hjx_abc", "this is no ticket"},
	} {
		_, err := ParseTicket(v.word)
		if err == nil || !strings.Contains(err.Error(), v.want) {
			t.Errorf("%s: error %v, want %q", name, err, v.want)
		} else if strings.Contains(err.Error(), word[4:20]) || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s: the error shows the ticket: %v", name, err)
		}
	}
}

func TestTicketIsNotShown(t *testing.T) {
	ticket := newTicket(pin{1}, time.Time{})
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "ticket", ticket)
	js, err := json.Marshal(ticket)
	if err != nil {
		t.Fatal(err)
	}
	bundle := Bundle{Cluster: "home", Key: []byte("swordfish"), Hash: "abc", Generation: 3}
	for _, s := range []string{
		log.String(), string(js), fmt.Sprint(ticket), fmt.Sprintf("%+v %#v %s %q", ticket, ticket, ticket, ticket),
		fmt.Sprintf("%v %+v %#v %s", bundle, bundle, bundle, bundle),
	} {
		if strings.Contains(s, ticket.Word()) || strings.Contains(s, fmt.Sprint(ticket.secret)) ||
			strings.Contains(s, fmt.Sprintf("%x", ticket.secret)) || strings.Contains(s, "swordfish") {
			t.Errorf("shown: %s", s)
		}
	}
	if ticket.Word() == newTicket(pin{1}, time.Time{}).Word() {
		t.Error("two tickets are equal")
	}
}

func FuzzParseTicket(f *testing.F) {
	f.Add(testTicket().Word())
	f.Add("hj1_")
	f.Add("hj99999999999999_x")
	f.Fuzz(func(t *testing.T, word string) {
		ticket, err := ParseTicket(word)
		if err != nil {
			return
		}
		if diff := cmp.Diff(strings.ToLower(strings.TrimSpace(word)), ticket.Word()); diff != "" {
			t.Error(diff)
		}
	})
}
