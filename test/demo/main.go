package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"harouter/test/netlab"
	"harouter/test/site"
)

func main() {
	netlab.Main()
	binary := flag.String("binary", "bin/harouter", "the program to show")
	keep := flag.Bool("keep", false, "leave the site standing at the end")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: what is %q for? There are -binary FILE and -keep\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := run(*binary, *keep, newScreen(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run builds the site, tells the story and takes the site down, or keeps it.
func run(binary string, keep bool, screen *screen) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("this needs root, for network namespaces: run it with sudo")
	}
	if err := os.Setenv("HAROUTER_BINARY", binary); err != nil {
		return err
	}
	if _, err := site.Binary(); err != nil {
		return err
	}
	screen.Print(picture...)
	screen.Begin("building this site out of network namespaces")
	lab, err := netlab.New(layout())
	if err != nil {
		screen.End()
		return err
	}
	defer func() {
		err = errors.Join(err, lab.Close()) // does nothing to a site that is kept
	}()
	defer leaveOnSignal(lab, screen)()
	if _, err := lab.Serve("net"); err != nil {
		screen.End()
		return err
	}
	cluster, err := site.Install(lab, config)
	screen.End()
	if err != nil {
		return err
	}

	s := &story{Cluster: cluster, screen: screen}
	err = s.tell()
	s.sum(err)
	if keep {
		err = errors.Join(err, keepSite(cluster, screen))
	}
	return errors.Join(err, s.broken())
}

// leaveOnSignal takes the site down when the demo is told to end, also by a
// closed terminal or pipe (netlab does so for SIGINT and SIGTERM only, and says
// nothing). The returned function ends that.
func leaveOnSignal(lab *netlab.Site, screen *screen) (stop func()) {
	signals, quit, done := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		defer close(done)
		select {
		case <-quit:
		case sig := <-signals:
			screen.Close("interrupted: taking the site down")
			_ = lab.Close() // nobody is left to hear of an error; the next run sweeps
			os.Exit(128 + int(sig.(syscall.Signal)))
		}
	}()
	return func() {
		signal.Stop(signals)
		close(quit)
		<-done
	}
}
