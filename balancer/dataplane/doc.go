// Package dataplane makes the kernel agree with a balancer.Plan: our nft table,
// the routing rules and routes that carry our protocol number, and sysctls. It
// reads, compares and writes the difference; twice is the same as once. What
// others wrote it never touches.
//
// It imports the pure package balancer and no other edge; package ha calls it
// from workers, never from the loop that elects.
package dataplane
