package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"harouter/conntracksync"
)

// gatherLimit is how many bytes of frames are taken before their flows are
// installed, although more are here.
const gatherLimit = 64 << 10

// ErrOverflow is why a session starts over whose queue was full.
var ErrOverflow = errors.New("the queue to it was full")

// Up says that there is a session.
func (r *Replica) Up(node string) {
	r.meet(func(o *owner) {
		o.up[node], o.more[node] = true, false
		o.table.Connected(time.Now(), node)
		o.do()
	})
}

// Down says that there is none.
func (r *Replica) Down(node string) {
	r.meet(func(o *owner) {
		o.more[node] = false
		if o.up[node] {
			o.up[node] = false
			o.table.Disconnected(time.Now(), node)
		}
		o.do()
	})
}

// Frame takes what a peer sent. When it returns for one without more, all is in
// the kernel. The frame is not kept.
func (r *Replica) Frame(node string, frame []byte, more bool) {
	r.meet(func(o *owner) {
		o.more[node] = more
		if o.up[node] {
			if err := o.table.Received(time.Now(), node, frame); err != nil {
				reason := "garbage"
				if errors.Is(err, conntracksync.ErrVersion) {
					reason = "version"
				}
				o.restart(node, reason, err)
			}
		}
		if o.gathered += len(frame); !more || o.gathered >= gatherLimit {
			o.do()
		}
	})
}

// Overflow says that frames to a node were dropped.
func (r *Replica) Overflow(node string) {
	r.meet(func(o *owner) {
		if o.up[node] {
			o.restart(node, "overflow", ErrOverflow)
			o.do()
		}
	})
}

func (r *Replica) meet(do func(*owner)) { _ = r.tell(context.Background(), r.frames, do) }

// restart begins anew with a node: what was on its way either way is void.
func (o *owner) restart(node, reason string, err error) {
	o.up[node] = false
	if o.lost[node] == nil {
		o.lost[node] = map[string]uint64{}
	}
	o.lost[node][reason]++
	o.table.Disconnected(time.Now(), node)
	o.cfg.Sessions.Restart(node, fmt.Errorf("start over with %s: %w", node, err))
}
