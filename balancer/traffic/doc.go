// Package traffic measures what passes over the uplinks, by the counters of their
// devices, and hands it on as bit/s: to the status, and where a method goes by it
// to the machine of package ha. All that is read is /proc/net/dev, once for all
// devices. The traffic of a device with a virtual MAC is counted by the device
// below it too, which is the one to name.
//
//	counters.go  the kernel's text    watcher.go  the Task
//
// It imports package balancer, nothing else of ours; cmd/harouter starts it.
package traffic
