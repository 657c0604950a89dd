package dataplane

import "harouter/balancer"

// A packet sees the rules of the moment at which its way through a base chain
// began, but the elements of the moment at which it comes to a map. If both change
// in one transaction it may be led to a chain that for it has no rules yet: it
// would leave the search without an uplink, and a host be told that there is no
// way. So what nothing leads to yet is made by a transaction of its own, before.

// lacks tells whether chains are missing that packets are to be led to.
func (h *present) lacks(t balancer.Table) bool {
	if h == nil || h.flags != 0 || !h.fits(t) {
		return false
	}
	for _, c := range t.Chains {
		if c.Hook == "" && h.chains[c.Name] == nil {
			return true
		}
	}
	return false
}

// ahead puts the missing chains into the transaction, and the missing sets, which
// their rules name.
func (d *diff) ahead(t balancer.Table, have *present) error {
	missing := func(c balancer.Chain) bool { return c.Hook == "" && have.chains[c.Name] == nil }
	for _, c := range t.Chains {
		if missing(c) {
			d.chain(c, nil)
		}
	}
	for _, s := range t.Sets {
		if have.sets[s.Name] == nil {
			if err := d.set(s, have); err != nil {
				return err
			}
		}
	}
	for _, c := range t.Chains {
		if missing(c) {
			if err := d.rules(c, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
