package importer

import (
	"net/netip"
	"path"
	"slices"

	"harouter/ha/config"
)

// Input is what is known of the router that is taken over.
type Input struct {
	Conf File // balance.conf
	// Beside are the files of its directories: Name begins with pre-run/, routes/,
	// firewall/, post-run/, lsm/up.d/, lsm/down.d/ or lsm/long_down.d/.
	Beside  []File
	Cluster string
	Node    string
	Address netip.Addr              // where other nodes will reach this one; the zero value: nobody said
	Devices []Device                // what this machine has
	Lans    map[string]netip.Prefix // virtual addresses that somebody gave, by service; capitals make no difference
	// Resolve finds the address of a host, for services that ping a name.
	Resolve func(name string) (netip.Addr, error)
}

// File is one text file. Path is how messages call it.
type File struct {
	Name, Path string
	Data       []byte
}

// Device is a network device as it is now. Labelled are its addresses that have a
// label of their own, such as eth0:1, by that label.
type Device struct {
	Name     string
	Address  netip.Prefix // the zero value: none
	Gateway  netip.Addr   // of the best default route over it; the zero value: none
	Dynamic  bool         // address or route came from a lease
	Labelled map[string]netip.Prefix
}

// Import writes the file. With an error among the problems there is no text; else
// it is one that config.Parse takes, and the warnings say what is not in it.
func Import(in Input) ([]byte, config.Problems) { return run(in, config.Parse) }

// parse is config.Parse.
type parse func(name string, data []byte) (*config.Config, config.Problems)

func run(in Input, try parse) ([]byte, config.Problems) {
	im := newImporter(in)
	im.readConf()
	if im.problems.Err() != nil {
		im.checkOptions()
		return nil, im.sorted()
	}
	im.chooseLinks()
	im.readBeside()
	im.join()
	text := im.draft().settle(im, try)
	if im.problems.Err() != nil {
		return nil, im.sorted()
	}
	return text, im.sorted()
}

func newImporter(in Input) *importer {
	im := &importer{in: in, devices: map[string]Device{}, said: map[config.Problem]bool{}}
	for _, d := range in.Devices {
		im.devices[d.Name] = d
	}
	return im
}

// importer is one import on its way.
type importer struct {
	in       Input
	devices  map[string]Device
	problems config.Problems
	said     map[config.Problem]bool
	failed   bool // an error is among them
	conf     conf
	lans     []*lan
	uplinks  []*uplink
	allows   []allow
	forwards []forward
	forced   []forced
	routes   []route
	maskings []masking
	openings []opening
	todo     remarks // what a person must do
	obsolete remarks // what nobody needs any more
	copies   []copied
}

// remark is a place in the old files and a sentence about it.
type remark struct {
	at   place
	line string // the line or statement itself
	text string
}

func (im *importer) fail(at place, format string, args ...any) {
	im.say(config.Error, at, format, args)
}
func (im *importer) warn(at place, format string, args ...any) {
	im.say(config.Warning, at, format, args)
}

// remarks is a list of them, each once: a loop finds it in every turn.
type remarks struct {
	list []remark
	has  map[remark]bool
	more int // that are left out
}

func (r *remarks) add(at place, line, text string) {
	key := remark{at: at, text: text}
	switch {
	case r.has[key]:
		return
	case len(r.list) == maxRemarks:
		r.more++
		return
	case r.has == nil:
		r.has = map[remark]bool{}
	}
	r.has[key] = true
	r.list = append(r.list, remark{at, line, text})
}

// cut takes back all but the first n.
func (r *remarks) cut(n int) {
	for _, x := range r.list[n:] {
		delete(r.has, remark{at: x.at, text: x.text})
	}
	r.list = r.list[:n]
}

// later notes what a person must do: it is a warning, and stands in the file.
func (im *importer) later(at place, line, text string) {
	im.todo.add(at, line, text)
	im.warn(at, "not carried over: %s", text)
}

// needless notes what harouter does by itself, or need not do.
func (im *importer) needless(at place, line, text string) { im.obsolete.add(at, line, text) }

// sorted are the problems, those of balance.conf first and then file by file.
func (im *importer) sorted() config.Problems {
	slices.SortStableFunc(im.problems, func(a, b config.Problem) int {
		switch {
		case a.File == b.File && a.Line != b.Line:
			return a.Line - b.Line
		case a.File == b.File:
			return a.Col - b.Col
		case a.File == im.in.Conf.Path:
			return -1
		case b.File == im.in.Conf.Path:
			return 1
		case path.Clean(a.File) < path.Clean(b.File):
			return -1
		}
		return 1
	})
	return im.problems
}
