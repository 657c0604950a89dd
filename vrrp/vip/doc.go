// Package vip puts the virtual addresses on their devices, takes them away,
// and announces them by gratuitous ARP. It also gives a device without an own
// address a link-local one, so that a backup can be heard on it.
//
// It decides nothing: package ha says Add and Remove, the guard removes through
// a Remover of its own. It imports no other edge.
package vip
