package vip

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// mac is what is to be known of a device that is made, if it is one.
func (k *Keeper) mac(name string) (VirtualMAC, bool) {
	i := slices.IndexFunc(k.cfg.MACs, func(v VirtualMAC) bool { return v.Name == name })
	if i < 0 {
		return VirtualMAC{}, false
	}
	return k.cfg.MACs[i], true
}

// device looks a device up, and makes it if it is one that is made.
func (k *Keeper) device(name string) (netlink.Link, error) {
	if v, made := k.mac(name); made {
		return v.make(k.nl)
	}
	return k.nl.LinkByName(name)
}

// makeMACs makes what lacks, and takes away what a former self made and nobody
// needs. Errors are logged once each.
func (k *Keeper) makeMACs() {
	if !k.swept {
		err := k.dropMACs()
		if k.swept = err == nil; !k.swept {
			k.log.Warn("look after virtual MACs", "reason", err)
		}
	}
	for _, v := range k.cfg.MACs {
		_, err := v.make(k.nl)
		text := ""
		if err != nil && !missing(err) {
			text = err.Error()
		}
		if text != "" && text != k.unmade[v.Name] {
			k.log.Warn("virtual MAC", "device", v.Parent, "mac", v.MAC, "reason", text)
		}
		k.unmade[v.Name] = text
	}
}

// dropMACs removes the devices that were made and are none any more.
func (k *Keeper) dropMACs() error {
	return removeMacvlans(k.nl, func(name string) bool { _, made := k.mac(name); return made })
}

// raise switches devices of ours on that have just got their addresses.
func (k *Keeper) raise(links map[string]netlink.Link) error {
	var failed error
	raised := false
	for name, link := range links {
		if !isOurs(link) {
			continue
		}
		err := k.nl.LinkSetARPOn(link)
		if err == nil {
			err = k.nl.LinkSetUp(link)
		}
		if err == nil {
			links[name], err = k.nl.LinkByName(name)
		}
		if err != nil {
			links[name] = link
			failed = errors.Join(failed, fmt.Errorf("switch %s on: %w", name, err))
			continue
		}
		raised = true
	}
	if raised && k.raised != nil {
		k.raised()
	}
	return failed
}

// lower switches a device of ours off that carries nothing. What it carries may
// be found by a run that has just begun, and is not to be touched before this
// node knows its role. It tells when to look again.
func (k *Keeper) lower(link netlink.Link, on []netlink.Addr, now time.Time) (again time.Time) {
	switch {
	case len(on) > 0 || !isOurs(link) || !up(link):
		return time.Time{}
	case now.Before(k.hushAt):
		return k.hushAt
	}
	if err := hush(k.nl, link); err != nil {
		k.log.Warn("virtual MAC", "reason", err)
	}
	return time.Time{}
}
