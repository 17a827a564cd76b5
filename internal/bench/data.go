package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"
)

// metrics are figures by name: seconds unless the name says otherwise.
type metrics map[string]float64

// round is one measurement that counted.
type round struct {
	When    time.Time `json:"when"`
	Foreign float64   `json:"foreign"` // share of the machine that other processes used
	Metrics metrics   `json:"metrics"`
}

// cell is what was measured of one setting in one row.
type cell struct {
	Row       string   `json:"row"`
	Setting   string   `json:"setting"`
	Argv      []string `json:"argv"`
	On        string   `json:"on"` // machine and versions
	Discarded int      `json:"discarded"`
	Rounds    []round  `json:"rounds"`
}

// values are a metric's in all rounds that have it.
func (c *cell) values(metric string) []float64 {
	if c == nil {
		return nil
	}
	var v []float64
	for _, r := range c.Rounds {
		if x, ok := r.Metrics[metric]; ok {
			v = append(v, x)
		}
	}
	return v
}

// data is the content of the results file.
type data struct {
	Cells []*cell `json:"cells"`
}

// loadData reads the file; one that is not there is empty.
func loadData(path string) (*data, error) {
	d := &data{}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	return d, json.Unmarshal(content, d)
}

func (d *data) save(path string) error {
	content, err := json.MarshalIndent(d, "", "\t")
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(content, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// of are the cells of a row, in the order in which they were first measured.
func (d *data) of(row string) []*cell {
	var cells []*cell
	for _, c := range d.Cells {
		if c.Row == row {
			cells = append(cells, c)
		}
	}
	return cells
}

// cell is nil where nothing was measured.
func (d *data) cell(row, setting string) *cell {
	for _, c := range d.of(row) {
		if c.Setting == setting {
			return c
		}
	}
	return nil
}

// ensure returns the cell, which is new if need be.
func (d *data) ensure(row, setting string) *cell {
	if c := d.cell(row, setting); c != nil {
		return c
	}
	c := &cell{Row: row, Setting: setting}
	d.Cells = append(d.Cells, c)
	return c
}
