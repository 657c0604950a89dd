package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// screen shows lines and, on a terminal, one last line that is rewritten with
// what is being done. Elsewhere there are plain lines only.
type screen struct {
	live   bool // a terminal whose last line can be rewritten
	colour bool

	mu     sync.Mutex
	out    io.Writer
	width  func() int // columns
	title  string
	doing  string
	since  time.Time
	closed bool
	quit   chan struct{} // of the goroutine that redraws; nil: none
	done   chan struct{}
}

// redraw is how often the elapsed time on the last line moves on.
const redraw = 100 * time.Millisecond

func newScreen(f *os.File) *screen {
	s := &screen{out: f}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return s
	}
	s.live = os.Getenv("TERM") != "dumb"
	s.colour = s.live && os.Getenv("NO_COLOR") == ""
	s.width = func() int {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
			return int(size.Col)
		}
		return 80
	}
	return s
}

// Print writes whole lines.
func (s *screen) Print(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.print(lines...)
}

func (s *screen) print(lines ...string) {
	if s.closed {
		return
	}
	if s.quit != nil {
		fmt.Fprint(s.out, "\r\x1b[K")
	}
	for _, l := range lines {
		fmt.Fprintln(s.out, l)
	}
}

// Begin says what is being done from now on, until End.
func (s *screen) Begin(title string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.title, s.doing, s.since = title, "", time.Now()
	if !s.live {
		s.print(title)
		return
	}
	s.draw()
	s.quit, s.done = make(chan struct{}), make(chan struct{})
	go s.tick(s.quit, s.done)
}

// Doing adds a detail to the line; it is gone at End.
func (s *screen) Doing(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doing = text
	if s.live {
		s.draw()
	}
}

// End leaves the title standing, with the outcome below.
func (s *screen) End(lines ...string) {
	s.mu.Lock()
	quit, done := s.quit, s.done
	s.mu.Unlock()
	if quit != nil {
		close(quit)
		<-done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if quit != nil {
		s.print(s.bold(s.title))
		s.quit = nil
	}
	s.print(lines...)
}

// Close writes a last line; nothing is written after it.
func (s *screen) Close(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.print(line)
	s.closed = true
}

func (s *screen) tick(quit, done chan struct{}) {
	defer close(done)
	t := time.NewTicker(redraw)
	defer t.Stop()
	for {
		select {
		case <-quit:
			return
		case <-t.C:
			s.mu.Lock()
			s.draw()
			s.mu.Unlock()
		}
	}
}

func (s *screen) draw() {
	if s.closed {
		return
	}
	elapsed := fmt.Sprintf("  %.1f s", time.Since(s.since).Seconds())
	line := s.title
	if s.doing != "" {
		line += ": " + s.doing
	}
	if room := s.width() - 1 - len(elapsed); len(line) > room {
		line = line[:max(room, 0)]
	}
	fmt.Fprint(s.out, "\r\x1b[K", line, s.paint("36", elapsed))
}

func (s *screen) bold(text string) string  { return s.paint("1", text) }
func (s *screen) green(text string) string { return s.paint("32", text) }
func (s *screen) red(text string) string   { return s.paint("31", text) }

// paint wraps text in a colour, where there are colours.
func (s *screen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
