package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// maxMessage bounds a message between nodes, bytes.
const maxMessage = 32 << 10

// message is what one node tells another: what it holds, or events.
type message struct {
	Have   Digest  `json:"have,omitempty"`
	Ask    bool    `json:"ask,omitempty"` // send yours
	Events []Event `json:"events,omitempty"`
}

// encodeDigest writes the first kind of message.
func encodeDigest(have Digest, ask bool) ([]byte, error) {
	if len(have) == 0 {
		have = Digest{"": nil} // nothing at all: still a digest
	}
	b, err := json.Marshal(message{Have: have, Ask: ask})
	if err == nil && len(b) > maxMessage {
		err = fmt.Errorf("it has %d bytes, %d at most are sent", len(b), maxMessage)
	}
	if err != nil {
		return nil, fmt.Errorf("write the digest of events: %w", err)
	}
	return b, nil
}

// encodeEvents writes as many of the events as fit, and tells how many.
func encodeEvents(events []Event) ([]byte, int, error) {
	b := []byte(`{"events":[`)
	n := 0
	for _, e := range events {
		one, err := json.Marshal(e)
		if err != nil {
			return nil, 0, fmt.Errorf("write an event: %w", err)
		}
		if len(b)+len(one)+len(",]}") > maxMessage {
			break
		}
		if n > 0 {
			b = append(b, ',')
		}
		b = append(b, one...)
		n++
	}
	return append(b, "]}"...), n, nil
}

// decode reads a message and refuses what no node of ours can have written.
func decode(b []byte) (message, error) {
	if len(b) > maxMessage {
		return message{}, fmt.Errorf("read a node's events: %d bytes, %d at most are expected", len(b), maxMessage)
	}
	var m message
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&m); err != nil {
		return message{}, fmt.Errorf("read a node's events: %w", err)
	}
	if runs, ok := m.Have[""]; ok && len(runs) == 0 {
		maps.DeleteFunc(m.Have, func(node string, _ Runs) bool { return node == "" })
	}
	if err := m.Have.check(); err != nil {
		return message{}, fmt.Errorf("read a node's events: %w", err)
	}
	for i, e := range m.Events {
		if err := check(e); err != nil {
			return message{}, fmt.Errorf("read a node's events: %w", err)
		}
		m.Events[i] = tidy(e)
	}
	m.Events = slices.Clip(m.Events)
	return m, nil
}
