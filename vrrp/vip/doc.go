// Package vip puts the virtual addresses on their devices, takes them away,
// and announces them by gratuitous ARP. It also gives a device without a
// permanent address of its own a link-local one, so that a backup can be heard
// there.
//
//	address.go   what there is to hold
//	keeper.go    Add, Remove: the switch
//	configure.go other addresses while it runs
//	run.go       what follows: later announcements, devices that come
//	mend.go      what others removed, or put in the wrong order
//	series.go    when to announce
//	macvlan.go   a device with a virtual MAC
//	macs.go      those of a configuration: made, raised, lowered
//	kernel.go    the few things that are done to a device
//	announce.go  ARP frames
//	neighbour.go their like for IPv6
//	rivals.go    who else answers for what is held (pure)
//	watch.go     asks and listens for that, as master only
//	ear.go       the socket that hears it
//	remove.go    taking away, also for the guard and where no file is left
//
// Where a link has a virtual MAC, its addresses are on a macvlan upon its device,
// which this package makes (and takes away: it knows them by their alias); the
// node's own addresses stay on the device itself, and each answers ARP for its own
// with its own MAC. Traffic from hosts to the virtual MAC comes in by the macvlan.
// What the plan's own routes lead out leaves by it too, while the addresses are
// here: a neighbour such as the ISP's router is asked in the name of the virtual
// address, as many of them insist, and switches learn the MAC from all that is
// sent and not from adverts only. A network in which the node has an address of
// its own stays reachable over the device, as the admin's route says.
//
// IPv6 addresses go the same way, with three differences that are the kernel's:
// they are added without detection of duplicates, since the node that has them now
// would be found; they are announced once it takes packets for them, a moment
// after it has added them; and its own route to their network comes with them,
// where the node has no address there, since plans have routes of IPv4 only.
//
// It decides nothing: package ha says Add and Remove, the guard removes through
// a Remover of its own. Routes are balancer/dataplane's: adding and removing
// here changes none. It imports no other edge.
package vip
