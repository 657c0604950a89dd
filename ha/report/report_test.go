package report

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// TestChooser: each event is sent by one node.
func TestChooser(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, master string
		want         []string
	}{
		{"as master", "r1", []string{"own", "other's"}},
		{"as backup", "r2", nil},
		{"without a master", "", []string{"own"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			x := chooser{node: "r1"}
			x.add(Event{Node: "r1", Time: noon, Subject: "own"}, noon)
			x.add(Event{Node: "r2", Time: noon.Add(-time.Minute), Subject: "other's"}, noon)
			x.add(Event{Node: "r2", Time: noon.Add(-time.Hour), Subject: "bygone"}, noon)
			send, _ := x.take(c.master)
			var got []string
			for _, e := range send {
				got = append(got, e.Subject)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if again, _ := x.take("r1"); len(again) > 0 {
				t.Errorf("sent twice: %v", again)
			}
		})
	}
}

func TestChooserIsBounded(t *testing.T) {
	t.Parallel()
	x := chooser{node: "r1"}
	for range gatherMost + 7 {
		x.add(Event{Node: "r1", Time: noon}, noon)
	}
	if send, lost := x.take("r1"); len(send) != gatherMost || lost != 7 {
		t.Errorf("%d to send, %d lost", len(send), lost)
	}
}

// sent is what an outbox sent: when, how many, how many were lost.
type sent struct {
	After        time.Duration
	Events, Lost int
}

// TestOutbox: one message at a time, in its gap, again after a failure, never
// more than there is room for.
func TestOutbox(t *testing.T) {
	t.Parallel()
	some := func(n int) []Event {
		out := make([]Event, n)
		for i := range out {
			out[i].Time = time.Now()
		}
		return out
	}
	for _, c := range []struct {
		name string
		fail int // so many attempts
		do   func(*outbox)
		want []sent
	}{
		{"one", 0, func(o *outbox) { o.put(some(1), 0) }, []sent{{0, 1, 0}}},
		{"in its gap", 0, func(o *outbox) {
			o.put(some(1), 0)
			time.Sleep(time.Second)
			o.put(some(1), 0)
			time.Sleep(time.Second)
			o.put(some(1), 2)
		}, []sent{{0, 1, 0}, {time.Minute, 2, 2}}},
		{"not all at once", 0, func(o *outbox) { o.put(some(perMessage+1), 0) }, []sent{{0, perMessage, 0}, {time.Minute, 1, 0}}},
		{"again", 2, func(o *outbox) { o.put(some(3), 0) }, []sent{{0, 3, 0}, {5 * time.Second, 3, 0}, {15 * time.Second, 3, 0}}},
		{"too many", 0, func(o *outbox) { o.put(some(outboxSize+5), 0) },
			[]sent{{0, perMessage, 5}, {time.Minute, perMessage, 0}, {2 * time.Minute, outboxSize - 2*perMessage, 0}}},
		{"too old", 1, func(o *outbox) {
			o.put(append(some(1), Event{Time: time.Now().Add(-tooOld - time.Hour)}), 0)
		}, []sent{{0, 2, 0}, {5 * time.Second, 2, 0}}},
		{"nowhere", 0, func(o *outbox) { o.configure(nil); o.put(some(1), 1) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o, start, tries := newOutbox("mail", time.Minute, slog.New(slog.DiscardHandler)), time.Now(), 0
				var got []sent
				o.configure(func(_ context.Context, b batch) error {
					got = append(got, sent{time.Since(start), len(b.events), b.lost})
					if tries++; tries <= c.fail {
						return errors.New("no")
					}
					return nil
				})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { o.run(ctx); close(done) }()
				synctest.Wait()
				c.do(o)
				time.Sleep(time.Hour)
				cancel()
				<-done
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestTogether: what belongs together is told together, mail of what people have
// to know only, and neither more often than its gap.
func TestTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Node: "r1"}, Ports{Master: func(context.Context) string { return "r1" }, Log: slog.New(slog.DiscardHandler)})
		start := time.Now()
		var mails, posts []sent
		r.mail.configure(func(_ context.Context, b batch) error {
			mails = append(mails, sent{time.Since(start), len(b.events), b.lost})
			return nil
		})
		r.webhook.configure(func(_ context.Context, b batch) error {
			posts = append(posts, sent{time.Since(start), len(b.events), b.lost})
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		for _, kind := range []string{"role", "uplink", "address", "alarm", "role"} { // one a second: the last two are gathered anew
			r.Tell(Event{Node: "r1", Kind: kind, Time: time.Now()})
			time.Sleep(time.Second + time.Millisecond)
		}
		time.Sleep(2 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]sent{{gatherFor, 2, 0}, {gatherFor + time.Minute, 2, 0}}, mails); diff != "" {
			t.Errorf("mail: %s", diff)
		}
		const second = 3*(time.Second+time.Millisecond) + gatherFor
		if diff := cmp.Diff([]sent{{gatherFor, 3, 0}, {second, 2, 0}}, posts); diff != "" {
			t.Errorf("webhook: %s", diff)
		}
	})
}

// TestGivenUp: a server that takes a message and says no more is given up, and
// asked again.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, start := newOutbox("mail", time.Minute, slog.New(slog.DiscardHandler)), time.Now()
		var tries []time.Duration
		o.configure(func(ctx context.Context, _ batch) error {
			tries = append(tries, time.Since(start))
			<-ctx.Done()
			return ctx.Err()
		})
		o.put([]Event{{Time: start}}, 0)
		ctx, cancel := context.WithTimeout(t.Context(), sendLimit+retryFirst+time.Second)
		defer cancel()
		o.run(ctx)
		if diff := cmp.Diff([]time.Duration{0, sendLimit + retryFirst}, tries); diff != "" {
			t.Error(diff)
		}
	})
}

// TestHangs: a server that hangs keeps the daemon from ending for endLimit only,
// and Tell never waits.
func TestHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Node: "r1"}, Ports{Master: func(context.Context) string { return "r1" }, Log: slog.New(slog.DiscardHandler)})
		began := make(chan struct{}, 100)
		hang := func(ctx context.Context, _ batch) error {
			began <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		r.mail.configure(hang)
		r.webhook.configure(hang)
		for range 10_000 { // nobody takes them yet: who waits here does so for ever
			r.Tell(Event{Node: "r1", Kind: "role", Time: time.Now()})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		<-began
		<-began
		start := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 2*endLimit { // one that is under way, and one more
			t.Errorf("the end took %v", took)
		}
	})
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	var got body
	var token, kind string
	status := http.StatusNoContent
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, kind = r.Header.Get("X-Token"), r.Header.Get("Content-Type")
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			_, _ = io.WriteString(w, "go away\n")
		}
	}))
	defer s.Close()
	b := batch{[]Event{{Time: noon, Node: "r2", Kind: "uplink", Subject: "cable", From: "up", To: "down", Reason: "no answer"}}, 2}
	hook := Webhook{URL: s.URL, Headers: map[string]string{"X-Token": "abc"}}
	if err := hook.send(t.Context(), b, "home", "r1"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(body{"home", "r1", b.events, 2}, got); diff != "" || token != "abc" || kind != "application/json" {
		t.Errorf("%s, token %q, kind %q", diff, token, kind)
	}
	status = http.StatusForbidden
	err := hook.send(t.Context(), b, "home", "r1")
	if err == nil || !strings.Contains(err.Error(), `403 Forbidden: "go away"`) {
		t.Errorf("a refusal: %v", err)
	}
}

// TestMessage: what others wrote into an event begins no header.
func TestMessage(t *testing.T) {
	t.Parallel()
	m := Mail{To: []string{"a@example.org", "root"}, From: "r@example.org"}
	b := batch{[]Event{
		{Time: noon, Node: "r1", Kind: "role", Subject: "r1", From: "backup", To: "master", Reason: "r2 is silent"},
		{Time: noon, Node: "r1", Kind: "alarm", Subject: "deaf ü\r\nBcc: x@example.org", To: "on", Reason: "line\n.\r\nQUIT"},
	}, 3}
	msg, err := mail.ReadMessage(strings.NewReader(string(m.message(b, "home", noon))))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
	if err != nil || subject != "[home] alarm deaf ü  Bcc: x@example.org on and 1 more" {
		t.Errorf("subject %q, %v", subject, err)
	}
	if to, err := msg.Header.AddressList("From"); err != nil || len(to) != 1 || msg.Header.Get("Bcc") != "" || msg.Header.Get("To") != "a@example.org, root" {
		t.Errorf("headers %v", msg.Header)
	}
	text, _ := io.ReadAll(msg.Body)
	for _, want := range []string{"r1  role r1 backup -> master: r2 is silent\r\n", "line .  QUIT", "3 events before these"} {
		if !strings.Contains(strings.ReplaceAll(string(text), "=\r\n", ""), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// server speaks as much SMTP as is needed: it refuses recipients with "no", and
// answers nothing where hang is set. It returns its address and what was said.
func server(t *testing.T, hang bool) (string, func() string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	said := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var all strings.Builder
		defer func() { said <- all.String() }()
		if hang {
			_, _ = io.Copy(io.Discard, conn)
			return
		}
		_, _ = io.WriteString(conn, "220 here\r\n")
		data := false
		for in := bufio.NewScanner(conn); in.Scan(); {
			line := in.Text()
			all.WriteString(line + "\n")
			answer := "250 fine"
			switch {
			case data && line != ".":
				continue
			case data:
				data = false
			case strings.HasPrefix(line, "EHLO"):
				answer = "250-here\r\n250 AUTH PLAIN"
			case strings.HasPrefix(line, "AUTH"):
				answer = "235 welcome"
			case strings.Contains(line, "<no@"):
				answer = "550 nobody"
			case line == "DATA":
				answer, data = "354 go on", true
			case line == "QUIT":
				_, _ = io.WriteString(conn, "221 bye\r\n")
				return
			}
			_, _ = io.WriteString(conn, answer+"\r\n")
		}
	}()
	return l.Addr().String(), func() string { return <-said }
}

var oneEvent = batch{[]Event{{Time: noon, Node: "r1", Kind: "role"}}, 0}

func TestSMTP(t *testing.T) {
	t.Parallel()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\nnot this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at, said := server(t, false)
	m := Mail{To: []string{"a@example.org", "no@example.org"}, From: "r@example.org", SMTP: at, Username: "user", PasswordFile: password}
	err := m.send(t.Context(), nil, oneEvent, "home", noon)
	if _, sent := err.(partly); !sent || !strings.Contains(err.Error(), "to no@example.org: 550") {
		t.Errorf("one of two: %v", err)
	}
	text := said()
	for _, want := range []string{"AUTH PLAIN AHVzZXIAc2VjcmV0\n", "MAIL FROM:<r@example.org>", "RCPT TO:<a@example.org>", "\nSubject: [home] role\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	at, _ = server(t, false)
	m.SMTP, m.To = at, []string{"no@example.org"}
	if err := m.send(t.Context(), nil, oneEvent, "home", noon); err == nil || errors.As(err, new(partly)) {
		t.Errorf("nobody gets it: %v", err)
	}
	if err := os.Chmod(password, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.send(t.Context(), nil, oneEvent, "home", noon); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a password for all: %v", err)
	}
}

func TestServerThatHangs(t *testing.T) {
	t.Parallel()
	at, _ := server(t, true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := (Mail{To: []string{"a"}, SMTP: at}).send(ctx, nil, oneEvent, "home", noon); err == nil {
		t.Error("sent")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestServers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ smtp, user, want string }{
		{"mx", "", "mx:25"}, {"mx", "u", "mx:587"}, {"mx:465", "u", "mx:465"}, {"[fd00::1]:26", "", "[fd00::1]:26"}, {"fd00::1", "", "[fd00::1]:25"},
	} {
		host, port := (Mail{SMTP: c.smtp, Username: c.user}).server()
		if got := net.JoinHostPort(host, port); got != c.want {
			t.Errorf("%s of %q: %s, want %s", c.smtp, c.user, got, c.want)
		}
	}
}

func TestSendmail(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho \"$@\" >" + dir + "/out\ncat >>" + dir + "/out\n"
	if err := os.WriteFile(filepath.Join(dir, "sendmail"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	m := Mail{To: []string{"root", "a@example.org"}, From: "r@example.org"}
	if err := m.send(t.Context(), exec.CommandContext, oneEvent, "home", noon); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(filepath.Join(dir, "out"))
	got := string(b)
	if !strings.HasPrefix(got, "-i -f r@example.org -- root a@example.org\nFrom: r@example.org\nTo: root,\n a@example.org\n") || strings.Contains(got, "\r") {
		t.Errorf("%q", got)
	}
}
