package events

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	fileName    = "events.jsonl"
	asideName   = "events.damaged" // what could not be read, the last such file
	newName     = "events.new"     // only while it is written
	growBy      = 1 << 20          // what the file may grow by before it is written anew, bytes
	maxReadBack = 32 << 20         // of a file that is larger only the end is read
	maxLine     = 64 << 10
)

// disk is the file: a line for each event, in the order in which they came. It
// grows until it is written anew with what the log holds then.
type disk struct {
	dir   string
	size  int64 // of the file as we left it
	limit int64
	aside bool // what is there is put aside instead of replaced

	write func(*os.File, []byte) (int, error) // differs in tests only
}

func newDisk(dir string) *disk {
	return &disk{dir: dir, limit: 2 * growBy, write: (*os.File).Write}
}

// errRewrite says that the file has to be written anew: it is too long, or it
// is not as we left it.
var errRewrite = errors.New("the file of events has to be written anew")

// append adds events to the file. After an error the file is as before.
func (d *disk) append(events []Event) error {
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	b, err := lines(events)
	if err != nil {
		return err
	}
	if d.size < 0 || d.size+int64(len(b)) > d.limit {
		return errRewrite
	}
	f, err := os.OpenFile(filepath.Join(d.dir, fileName), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != d.size {
		f.Close()
		return errRewrite
	}
	_, err = d.write(f, b)
	if err != nil {
		if f.Truncate(d.size) != nil {
			d.size = -1
		}
		f.Close()
		return fmt.Errorf("write events: %w", err)
	}
	d.size += int64(len(b))
	if err := f.Close(); err != nil {
		d.size = -1
		return fmt.Errorf("write events: %w", err)
	}
	return nil
}

// rewrite replaces the file by one with these events, or leaves it as it is.
func (d *disk) rewrite(events []Event) error {
	b, err := lines(events)
	if err != nil {
		return err
	}
	file, tmp := filepath.Join(d.dir, fileName), filepath.Join(d.dir, newName)
	if err := errors.Join(os.MkdirAll(d.dir, 0o755), d.writeNew(tmp, b)); err != nil {
		_ = os.Remove(tmp) // most often it has no room
		return fmt.Errorf("write events anew: %w", err)
	}
	if d.aside {
		if err := os.Rename(file, filepath.Join(d.dir, asideName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put the damaged events aside: %w", err)
		}
		d.aside = false
	}
	if err := os.Rename(tmp, file); err != nil {
		return fmt.Errorf("write events anew: %w", err)
	}
	d.size, d.limit = int64(len(b)), int64(len(b))+growBy
	return nil
}

// writeNew writes a file whole and to the disk: it is to replace a good one.
func (d *disk) writeNew(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err = d.write(f, b); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func lines(events []Event) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, e := range events {
		if err := enc.Encode(e); err != nil {
			return nil, fmt.Errorf("write events: %w", err)
		}
	}
	return b.Bytes(), nil
}

// damage is what load could not use.
type damage struct {
	size  int64 // of the file
	lines int   // that are none of ours
	torn  bool  // the last line: a crash in the midst of writing
}

// load reads the file; there may be none.
func load(dir string) ([]Event, damage, error) {
	f, err := os.Open(filepath.Join(dir, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damage{}, nil
	}
	if err != nil {
		return nil, damage{}, fmt.Errorf("read events: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, damage{}, fmt.Errorf("read events: %w", err)
	}
	skip := info.Size() - maxReadBack
	if skip > 0 {
		if _, err := f.Seek(skip, io.SeekStart); err != nil {
			return nil, damage{}, fmt.Errorf("read events: %w", err)
		}
	}
	events, d, err := parse(f, skip > 0)
	d.size = info.Size()
	if err != nil {
		return events, d, fmt.Errorf("read events: %w", err)
	}
	return events, d, nil
}

// parse reads lines. Where inside is set the first one is only a part of one.
func parse(r io.Reader, inside bool) ([]Event, damage, error) {
	var events []Event
	var d damage
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		var e Event
		switch {
		case err != nil && err != io.EOF:
			return events, d, err
		case err == io.EOF:
			d.torn = len(line) > 0 && !inside
			return events, d, nil
		case inside:
			inside = false
		case long || json.Unmarshal(line, &e) != nil || check(e) != nil:
			d.lines++
		default:
			events = append(events, tidy(e))
		}
	}
}

// Read returns the newest n events (all, if n is 0) that a daemon left in dir,
// by time, for those who ask while none runs.
func Read(dir string, n int) ([]Event, error) {
	found, _, err := load(dir)
	if err != nil {
		return nil, err
	}
	s := store{}
	for _, e := range found {
		s.add(e)
	}
	return newest(s.all(), n), nil
}
