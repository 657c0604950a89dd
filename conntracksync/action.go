package conntracksync

// Action is what a Table wants done, in the order in which it says so.
type Action interface{ action() }

// Install wants flows in the kernel's table as they are, replacing what is there
// under the same tuples. Timeout is the time that each is to have.
type Install struct{ Flows []Flow }

// Update wants the time, mark, status and state of flows changed that are there.
type Update struct{ Flows []Flow }

// Remove wants flows deleted from the kernel's table.
type Remove struct{ Flows []Flow }

// SetTimeouts wants only the time changed that flows have left, and that packets of
// theirs are taken whose predecessors passed another node.
type SetTimeouts struct{ Flows []Flow }

// Expect wants expectations in the kernel's table, whose masters are there, as
// they are; Timeout is the time that each is to have.
type Expect struct{ Expectations []Expectation }

// Unexpect wants them deleted.
type Unexpect struct{ Expectations []Expectation }

// Read wants flows read from the kernel's table into their places, with the ID 0
// where there is none, and given to Table.WasRead.
type Read struct{ Flows []Flow }

// Send wants a frame brought to a peer, in order. When it cannot be, the caller
// says Disconnected and, when there is room again, Connected.
type Send struct {
	Node  string
	Frame []byte
}

// Batch is how many flows an action holds at most.
const Batch = 128

func (Install) action()     {}
func (Update) action()      {}
func (Remove) action()      {}
func (SetTimeouts) action() {}
func (Expect) action()      {}
func (Unexpect) action()    {}
func (Read) action()        {}
func (Send) action()        {}

type wish uint8

const (
	install wish = iota
	update
	remove
	setTime
)

// want adds a flow to the last action if that is of the same kind.
func (t *Table) want(w wish, f Flow) {
	if n := len(t.actions); n > 0 {
		switch a := t.actions[n-1].(type) {
		case *Install:
			if w == install && len(a.Flows) < Batch {
				a.Flows = append(a.Flows, f)
				return
			}
		case *Update:
			if w == update && len(a.Flows) < Batch {
				a.Flows = append(a.Flows, f)
				return
			}
		case *Remove:
			if w == remove && len(a.Flows) < Batch {
				a.Flows = append(a.Flows, f)
				return
			}
		case *SetTimeouts:
			if w == setTime && len(a.Flows) < Batch {
				a.Flows = append(a.Flows, f)
				return
			}
		}
	}
	flows := append(make([]Flow, 0, 4), f)
	switch w {
	case install:
		t.actions = append(t.actions, &Install{flows})
	case update:
		t.actions = append(t.actions, &Update{flows})
	case remove:
		t.actions = append(t.actions, &Remove{flows})
	case setTime:
		t.actions = append(t.actions, &SetTimeouts{flows})
	}
}
