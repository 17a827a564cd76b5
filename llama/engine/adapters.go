package engine

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// AdapterScale names one of Params.Adapters, and says how much of it is added to the model's weights: 1 is what it was
// trained as.
type AdapterScale struct {
	Name  string
	Scale float32
}

// adapter is one of Params.Adapters.
type adapter struct {
	*llama.Adapter
	sum string // of its file
}

// adapters are those of an engine, by name.
type adapters map[string]adapter

func loadAdapters(m *llama.Model, paths map[string]string) (_ adapters, err error) {
	all := adapters{}
	defer func() {
		if err != nil {
			err = errors.Join(err, all.close())
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		a, err := llama.LoadAdapter(m, paths[name])
		if err != nil {
			return nil, fmt.Errorf("engine: Params.Adapters[%q]: %w", name, err)
		}
		all[name] = adapter{Adapter: a}
		sum, err := fileSum(paths[name])
		if err != nil {
			return nil, fmt.Errorf("engine: Params.Adapters[%q]: %w", name, err)
		}
		all[name] = adapter{a, sum}
	}
	return all, nil
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)[:16]), err
}

func (all adapters) close() error {
	var errs []error
	for _, a := range all {
		errs = append(errs, a.Close())
	}
	return errors.Join(errs...)
}

// adapterSet is what a request's adapters come to: the same ones have the same key, "" is none.
type adapterSet struct {
	key    string
	scales []llama.AdapterScale
}

// set checks a request's adapters.
func (all adapters) set(kind string, wanted []AdapterScale) (set adapterSet, err error) {
	sorted := slices.SortedFunc(slices.Values(wanted), func(a, b AdapterScale) int { return strings.Compare(a.Name, b.Name) })
	for i, w := range sorted {
		a, ok := all[w.Name]
		switch {
		case !ok:
			return set, invalid(kind+".Adapters", "%.40q is none of Params.Adapters: %q", w.Name, slices.Sorted(maps.Keys(all)))
		case i > 0 && sorted[i-1].Name == w.Name:
			return set, invalid(kind+".Adapters", "%.40q is given twice", w.Name)
		case math.IsNaN(float64(w.Scale)) || math.IsInf(float64(w.Scale), 0):
			return set, invalid(kind+".Adapters", "the scale of %.40q is %v", w.Name, w.Scale)
		case w.Scale == 0:
			continue
		}
		set.key += fmt.Sprintf("%s*%08x ", a.sum, math.Float32bits(w.Scale))
		set.scales = append(set.scales, llama.AdapterScale{Adapter: a.Adapter, Scale: w.Scale})
	}
	return set, nil
}

// adapt gives a sequence that is not submitted yet its adapters.
func (s *sequence) adapt(set adapterSet) { s.key.adapters, s.adapters = set.key, set.scales }

// groups says whose turn it is: adapters are those of a context, so that a step computes sequences of the same ones only.
type groups struct {
	now  string // key of the adapters that the next step computes with
	step uint64
	last map[string]uint64 // step in which a group was computed last, or came
}

// next gives the turn to the group that has waited for most steps. With one group there is nothing to choose.
func (g *groups) next(running []*sequence) {
	g.step++
	if len(running) == 0 {
		return
	}
	first := running[0].key.adapters
	if !slices.ContainsFunc(running, func(s *sequence) bool { return s.key.adapters != first }) {
		g.now = first
		clear(g.last)
		return
	}
	if g.last == nil {
		g.last = map[string]uint64{}
	}
	best := first
	for _, s := range running {
		k := s.key.adapters
		if _, known := g.last[k]; !known {
			g.last[k] = g.step - 1 // behind those that wait
		}
		if g.last[k] < g.last[best] {
			best = k
		}
	}
	if len(g.last) > len(running) {
		maps.DeleteFunc(g.last, func(k string, _ uint64) bool {
			return !slices.ContainsFunc(running, func(s *sequence) bool { return s.key.adapters == k })
		})
	}
	g.now, g.last[best] = best, g.step
}
