package main

import "os"

// document is a file that is to be written as a whole.
type document struct {
	path string
	data []byte
	mode os.FileMode
}

// place writes all documents or none: what was there stays if anything fails,
// such as a full disk, and no half of a file is ever seen. Directories that are
// missing are made.
func place(docs ...document) error {
	var set fileSet
	defer set.discard()
	for _, d := range docs {
		if err := set.place(d.path, d.mode); err != nil {
			return err
		}
	}
	for _, d := range docs {
		if err := set.fill(d.path, d.data); err != nil {
			return err
		}
	}
	return set.commit()
}
