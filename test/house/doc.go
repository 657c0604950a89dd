// Package house holds the tests that keep the layout of the repository: which
// package may import which, that each explains itself, and that the README
// names what the program is built on. It has no code of its own.
package house
