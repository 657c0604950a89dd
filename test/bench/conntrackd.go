package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"harouter/test/netlab"
)

// As in research/baseline-keepalived.md: FTFW by UDP over the direct cable. The
// last word is DisableExternalCache, which the manual leaves Off.
const conntrackdConfig = `Sync {
  Mode FTFW {
    ResendQueueSize 131072
    PurgeTimeout 60
    ACKWindowSize 300
    DisableExternalCache %[4]s
  }
  UDP {
    IPv4_address %[1]s
    IPv4_Destination_Address %[2]s
    Port 3780
    Interface sync0
    SndSocketBuffer 8388608
    RcvSocketBuffer 8388608
    Checksum on
  }
}
General {
  HashSize 65536
  HashLimit 262144
  LogFile %[3]s/conntrackd.out
  LockFile %[3]s/conntrackd.lock
  UNIX {
    Path %[3]s/conntrackd.ctl
  }
  NetlinkBufferSize 8388608
  NetlinkBufferSizeMaxGrowth 33554432
  Filter From Userspace {
    Protocol Accept {
      TCP
      UDP
      ICMP
    }
    Address Ignore {
      IPv4_address 127.0.0.1
      IPv4_address 192.0.2.1
      IPv4_address 192.0.2.2
    }
  }
}
`

// The uplink's mark, which ours sets as well, so that both have it to tell.
const conntrackdMark = `table ip marks { chain fw { type filter hook forward priority mangle; oifname "wan1" ct state new ct mark set 0x100; }; }
`

// theirFlows is keepalived and conntrackd on both.
type theirFlows struct {
	*theirPair
	sync map[string]*netlab.Process
}

func newTheirFlows() (*theirFlows, error) {
	if _, err := os.Stat(tool("conntrackd")); err != nil {
		return nil, fmt.Errorf("conntrackd is not installed: %w", err)
	}
	p, err := newTheirPair(100 * time.Millisecond)
	if err != nil {
		return nil, err
	}
	f := &theirFlows{theirPair: p.(*theirPair), sync: map[string]*netlab.Process{}}
	fail := func(err error) (*theirFlows, error) { return nil, errors.Join(err, f.Close()) }
	for _, name := range []string{"r1", "r2"} {
		if err := f.Router(name).NFT(conntrackdMark); err != nil {
			return fail(err)
		}
	}
	if err := errors.Join(f.start("r1", "r2"), f.replicate("Off"), f.settled()); err != nil {
		return fail(err)
	}
	return f, nil
}

// replicate starts conntrackd on both, anew. With direct "On" flows go into the
// backup's kernel as they come.
func (f *theirFlows) replicate(direct string) error {
	for _, d := range f.sync {
		if _, err := d.Stop(10 * time.Second); err != nil {
			return err
		}
	}
	address := map[string]string{"r1": "192.0.2.1", "r2": "192.0.2.2"}
	for name, other := range map[string]string{"r1": "r2", "r2": "r1"} {
		r := f.Router(name)
		text := fmt.Sprintf(conntrackdConfig, address[name], address[other], r.RunDir(), direct)
		if err := os.WriteFile(filepath.Join(r.ConfigDir(), "conntrackd.conf"), []byte(text), 0o644); err != nil {
			return err
		}
		d, err := r.Start("conntrackd", tool("conntrackd"), "-C", filepath.Join(r.ConfigDir(), "conntrackd.conf"))
		if err != nil {
			return err
		}
		f.sync[name] = d
	}
	time.Sleep(500 * time.Millisecond)
	for name, d := range f.sync {
		if d.Ended() != 0 {
			log, _ := os.ReadFile(d.Log)
			return fmt.Errorf("conntrackd on %s ended: %.300s", name, log)
		}
	}
	return nil
}

// tell has conntrackd do something; it returns when that is done.
func (f *theirFlows) tell(router, what string) error {
	r := f.Router(router)
	if out, err := r.Exec(tool("conntrackd"), "-C", filepath.Join(r.ConfigDir(), "conntrackd.conf"), what); err != nil {
		return fmt.Errorf("conntrackd %s on %s: %w: %.200s", what, router, err, out)
	}
	return nil
}

// forget empties all tables and caches.
func (f *theirFlows) forget() error {
	var err error
	for _, name := range []string{"r1", "r2"} {
		err = errors.Join(err, f.Router(name).FlushConnections())
	}
	time.Sleep(300 * time.Millisecond)
	for _, name := range []string{"r1", "r2"} {
		err = errors.Join(err, f.tell(name, "-f"), f.Router(name).FlushConnections())
	}
	return err
}

func (f *theirFlows) usage(router string) (time.Duration, error) {
	cpu, _, err := netlab.Usage(f.sync[router].PID)
	return cpu, err
}

// commit brings what was received into the backup's kernel.
func (f *theirFlows) commit() (time.Duration, error) {
	begin := time.Now()
	err := f.tell("r2", "-c")
	return time.Since(begin), err
}
