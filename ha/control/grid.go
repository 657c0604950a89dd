package control

import (
	"strings"
	"unicode/utf8"
)

// width is that of the terminal which everything must fit on, characters.
const width = 80

// style is how a cell is shown on a terminal that can.
type style string

const (
	plain  style = ""
	bold   style = "1"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	dim    style = "2"
)

func (s style) wrap(text string, color bool) string {
	if !color || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// cell is one field of a grid.
type cell struct {
	text string
	style
}

// grid is a table with a header; columns are as wide as they must, two spaces
// apart. The first column holds names: at most maxFirst of them are shown, and
// as little as minFirst where that keeps the width.
type grid struct {
	header  []string
	whole   bool // the first column is not cut
	rows    [][]cell
	below   map[int][]string // lines under a row, indented
	atLeast []int            // widths that the columns have in any case
}

const (
	gap      = 2
	minFirst = 6
	maxFirst = 16
)

func (g *grid) add(cells ...cell) { g.rows = append(g.rows, cells) }

// widths returns those of the columns, and of the whole.
func (g *grid) widths() (columns []int, total int) {
	columns = make([]int, len(g.header))
	for i, h := range g.header {
		columns[i] = utf8.RuneCountInString(h)
		for _, r := range g.rows {
			columns[i] = max(columns[i], utf8.RuneCountInString(r[i].text))
		}
		if i == 0 && !g.whole {
			columns[i] = min(columns[i], maxFirst)
		}
		if i < len(g.atLeast) {
			columns[i] = max(columns[i], g.atLeast[i])
		}
		total += columns[i]
	}
	return columns, total + gap*(len(columns)-1)
}

// fits tells whether the grid is not too wide once its names are cut.
func (g *grid) fits() bool {
	columns, total := g.widths()
	return total-max(columns[0]-minFirst, 0) <= width
}

func (g *grid) lines(color bool) []string {
	columns, total := g.widths()
	if total > width && !g.whole {
		columns[0] = max(columns[0]-(total-width), min(columns[0], minFirst))
	}
	line := func(cells []cell) string {
		var b strings.Builder
		pad := 0
		for i, c := range cells {
			b.WriteString(strings.Repeat(" ", pad))
			text := c.text
			if i == 0 {
				text = cut(text, columns[0])
			}
			b.WriteString(c.wrap(text, color))
			pad = columns[i] - utf8.RuneCountInString(text) + gap
		}
		return strings.TrimRight(b.String(), " ")
	}
	head := make([]cell, len(g.header))
	for i, h := range g.header {
		head[i] = cell{h, bold}
	}
	lines := []string{line(head)}
	for i, r := range g.rows {
		lines = append(lines, line(r))
		for _, b := range g.below[i] {
			lines = append(lines, "  "+b)
		}
	}
	return lines
}
