package importer

import "slices"

// marker is how much was found at a moment.
type marker struct {
	failed                   bool
	problems, todo, obsolete int
	allows                   []allow
	forwards                 []forward
	forced                   []forced
	routes                   []route
	maskings, openings       int
}

// mark and rewind take back what a block of a Perl file did before something in it
// turned out not to be readable.
func (im *importer) mark() marker {
	return marker{im.failed, len(im.problems), len(im.todo.list), len(im.obsolete.list), slices.Clone(im.allows), slices.Clone(im.forwards), slices.Clone(im.forced),
		slices.Clone(im.routes), len(im.maskings), len(im.openings)}
}

func (im *importer) rewind(m marker) {
	for _, p := range im.problems[m.problems:] {
		delete(im.said, p)
	}
	im.problems = im.problems[:m.problems]
	im.failed = m.failed
	im.todo.cut(m.todo)
	im.obsolete.cut(m.obsolete)
	im.allows, im.forwards, im.forced, im.routes = m.allows, m.forwards, m.forced, m.routes
	im.maskings, im.openings = im.maskings[:m.maskings], im.openings[:m.openings]
}
