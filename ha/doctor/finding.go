package doctor

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Level is how bad a finding is.
type Level string

// With a Fault harouter does not do what it should; a Warning may become one; a Note
// says which of several ways is used here.
const (
	Fault   Level = "fault"
	Warning Level = "warning"
	Note    Level = "note"
)

// levels are all, the worst first.
var levels = []Level{Fault, Warning, Note}

// Finding is one thing that is not as it should be.
type Finding struct {
	Level   Level  `json:"level"`
	Check   string `json:"check"`   // which look found it: kernel, rights, programs …
	Subject string `json:"subject"` // what it is about: a device, a program, a file
	Text    string `json:"text"`    // what is wrong, one sentence without an end
	Mend    string `json:"mend"`    // what to do about it; of a Note empty
}

// Report is all that was found, and which looks were taken.
type Report struct {
	Healthy  bool      `json:"healthy"` // no faults
	Checks   []string  `json:"checks"`
	Findings []Finding `json:"findings"`
}

// Add notes a look and what it found.
func (r *Report) Add(check string, found []Finding) {
	r.Checks = append(r.Checks, check)
	for _, f := range found {
		f.Check = check
		r.Findings = append(r.Findings, f)
	}
}

// Close sorts the findings, faults first, and judges.
func (r *Report) Close() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(levels, a.Level), slices.Index(levels, b.Level))
	})
	r.Healthy = r.count(Fault) == 0
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
}

func (r *Report) count(l Level) int {
	n := 0
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

// Write tells the report to a person.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s: %s\n", strings.ToUpper(string(f.Level)), f.Subject, f.Text)
		if f.Mend != "" {
			fmt.Fprintf(&b, "  mend: %s\n", f.Mend)
		}
	}
	fmt.Fprintf(&b, "looked at %s: ", strings.Join(r.Checks, ", "))
	switch faults, warnings := r.count(Fault), r.count(Warning); {
	case faults+warnings == 0:
		b.WriteString("all is well\n")
	default:
		fmt.Fprintf(&b, "%s, %s\n", counted(faults, "fault"), counted(warnings, "warning"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func counted(n int, what string) string {
	switch n {
	case 0:
		return "no " + what
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
