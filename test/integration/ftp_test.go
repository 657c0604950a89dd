package integration

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"harouter/test/netlab"
	"harouter/test/site"
)

// within runs f on a thread in a node's namespace; the thread ends with it.
func within(t *testing.T, n *netlab.Node, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		ns, err := os.Open("/run/netns/" + n.Namespace())
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("in %s: %v", n.Name, err)
	}
}

// TestFTPSurvivesCrash: a client names the port for its data, and the master
// dies before the server comes. The successor, whose helper saw nothing of it,
// lets the server in and leads it to the client; and the control connection,
// in which the helper made the words longer, goes on.
func TestFTPSurvivesCrash(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	for _, r := range []string{"r1", "r2"} {
		must(t, c.Router(r).NFT(`table ip ftp {
			ct helper ftp { type "ftp" protocol tcp; l3proto ip; }
			chain look { type filter hook prerouting priority 0; tcp dport 21 ct helper set "ftp"; }
		}`))
	}
	inSync(t, c, "r1", "r2")
	host, internet := c.Node("h1"), c.Node("net")
	var control, active net.Listener
	var client net.Conn
	within(t, internet, func() (err error) { control, err = net.Listen("tcp", site.Server.String()+":21"); return err })
	defer control.Close()
	within(t, host, func() (err error) {
		client, err = net.DialTimeout("tcp", site.Server.String()+":21", 3*time.Second)
		return err
	})
	defer client.Close()
	server, err := control.Accept()
	must(t, err)
	defer server.Close()
	within(t, host, func() (err error) {
		active, err = net.Listen("tcp", net.JoinHostPort(client.LocalAddr().(*net.TCPAddr).IP.String(), "5000"))
		return err
	})
	defer active.Close()
	said := bufio.NewReader(server)
	say := func(line string) string {
		t.Helper()
		must(t, server.SetReadDeadline(time.Now().Add(5*time.Second)))
		_, err := fmt.Fprintf(client, "%s\r\n", line)
		must(t, err)
		heard, err := said.ReadString('\n')
		must(t, err)
		return strings.TrimSpace(heard)
	}
	say("USER x")
	ip := strings.ReplaceAll(client.LocalAddr().(*net.TCPAddr).IP.String(), ".", ",")
	heard := say("PORT " + ip + ",19,136")
	var a, b, d, e, high, low byte
	if _, err := fmt.Sscanf(heard, "PORT %d,%d,%d,%d,%d,%d", &a, &b, &d, &e, &high, &low); err != nil || strings.Contains(heard, ip) {
		t.Fatalf("the server heard %q: %v", heard, err)
	}
	to := fmt.Sprintf("%d.%d.%d.%d:%d", a, b, d, e, int(high)<<8|int(low))
	until := time.Now().Add(3 * time.Second)
	for {
		out, err := c.Router("r2").Exec("conntrack", "-L", "expect")
		if err == nil && strings.Contains(out, "dport=5000") {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("r2 does not expect the data: %s, %v", out, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // and the adjustment, which is read 5 ms later

	must(t, c.PowerOff("r1"))
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	var data net.Conn
	within(t, internet, func() (err error) {
		data, err = (&net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: site.Server.AsSlice(), Port: 20}}).Dial("tcp", to)
		return err
	})
	defer data.Close()
	_, err = data.Write([]byte("the file\n"))
	must(t, err)
	conn, err := active.Accept()
	must(t, err)
	defer conn.Close()
	must(t, conn.SetReadDeadline(time.Now().Add(3*time.Second)))
	if got, err := bufio.NewReader(conn).ReadString('\n'); got != "the file\n" {
		t.Errorf("the client got %q, %v", got, err)
	}
	if got := say("NOOP"); got != "NOOP" {
		t.Errorf("the server heard %q", got)
	}
}
