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

func conntrackdFile(r *netlab.Node) string { return filepath.Join(r.ConfigDir(), "conntrackd.conf") }

// configure writes a router's file; with direct "On" flows go into the backup's
// kernel as they come.
func (p *theirPair) configure(name, direct string) error {
	address := map[string]string{"r1": "192.0.2.1", "r2": "192.0.2.2"}
	other := map[string]string{"r1": "r2", "r2": "r1"}[name]
	r := p.Router(name)
	return os.WriteFile(conntrackdFile(r), fmt.Appendf(nil, conntrackdConfig, address[name], address[other], r.RunDir(), direct), 0o644)
}

func (p *theirPair) startSync(name string) error {
	r := p.Router(name)
	if err := remove(r.RunDir(), "conntrackd.lock", "conntrackd.ctl"); err != nil {
		return err
	}
	d, err := r.Start("conntrackd", tool("conntrackd"), "-C", conntrackdFile(r))
	if err != nil {
		return err
	}
	p.sync[name] = d
	err = netlab.WaitFor("conntrackd of "+name+" listens", 5*time.Second, func() bool {
		_, err := os.Stat(filepath.Join(r.RunDir(), "conntrackd.ctl"))
		return err == nil
	})
	if err != nil {
		log, _ := os.ReadFile(d.Log)
		return fmt.Errorf("%w: %.300s", err, log)
	}
	return nil
}

// theirFlows is the pair as a replicator.
type theirFlows struct{ *theirPair }

func newTheirFlows() (*theirFlows, error) {
	p, err := newTheirPair(100 * time.Millisecond)
	if err != nil {
		return nil, err
	}
	f := &theirFlows{p.(*theirPair)}
	if err := errors.Join(f.start("r1", "r2"), f.settled()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// replicate starts conntrackd on both, anew.
func (f *theirFlows) replicate(direct string) error {
	for name, d := range f.sync {
		if _, err := d.Stop(10 * time.Second); err != nil {
			return err
		}
		if err := f.configure(name, direct); err != nil {
			return err
		}
	}
	for name := range f.sync {
		if err := f.startSync(name); err != nil {
			return err
		}
	}
	time.Sleep(500 * time.Millisecond)
	return nil
}

// tell has conntrackd do something; it returns when that is done.
func (f *theirFlows) tell(router, what string) error {
	r := f.Router(router)
	if out, err := r.Exec(tool("conntrackd"), "-C", conntrackdFile(r), what); err != nil {
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
