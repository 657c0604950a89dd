package guard

import (
	"encoding/json"
	"errors"
	"fmt"
)

// kind names a message between daemon and guard.
type kind string

const (
	kindState   kind = "state"   // daemon to guard: State
	kindRetire  kind = "retire"  // daemon to guard: end, touch nothing
	kindPing    kind = "ping"    // daemon to guard: answer on the page
	kindRelease kind = "release" // daemon to guard: I leave, the addresses stay
	kindReady   kind = "ready"   // guard to daemon, once
	kindProblem kind = "problem" // guard to daemon instead of ready: Text
	kindFenced  kind = "fenced"  // guard to daemon
	kindLeft    kind = "left"    // guard to daemon: the release is understood

	kindTakeOver kind = "takeover" // next daemon to guard, on guard.sock
	kindTaken    kind = "taken"    // guard's answer: State, what it held
	kindBusy     kind = "busy"     // guard's answer: its daemon is alive
)

// message is one packet on a socket of the guard, as JSON.
type message struct {
	Kind  kind   `json:"kind"`
	State *State `json:"state,omitempty"`
	Text  string `json:"text,omitempty"`
}

// maxMessage bounds a packet: some hundred times what a large site needs.
const maxMessage = 1 << 20

func (m message) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Kind, err)
	}
	if len(b) > maxMessage {
		return nil, fmt.Errorf("encode %s: %d bytes are more than the limit of %d", m.Kind, len(b), maxMessage)
	}
	return b, nil
}

// decodeMessage refuses whatever the receiver could not act on.
func decodeMessage(b []byte) (message, error) {
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		return message{}, fmt.Errorf("decode %d bytes: %w", len(b), err)
	}
	switch m.Kind {
	case kindState, kindTaken:
		if m.State == nil {
			return message{}, fmt.Errorf("decode %s: no state in it", m.Kind)
		}
	case kindPing, kindRetire, kindRelease, kindReady, kindProblem, kindFenced, kindLeft, kindTakeOver, kindBusy:
	case "":
		return message{}, errors.New("decode: no kind in it")
	default:
		return message{}, fmt.Errorf("decode: unknown kind %.40q", string(m.Kind))
	}
	return m, nil
}
