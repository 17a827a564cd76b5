package hub

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// preferred are the quantisations that a reference without one stands for, best compromise first.
var preferred = []string{"Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q8_0"}

// variant is a model of a repository: one file, or the parts of a split one.
type variant struct {
	parts []treeEntry
	count int // parts that there must be
}

func (v variant) path() string { return v.parts[0].Path }

// choose finds the files that spec means: the path of one, a quantisation, or "" for a sensible one.
func choose(repo, spec string, entries []treeEntry) ([]treeEntry, error) {
	all := variants(entries)
	for _, v := range all {
		if slices.ContainsFunc(v.parts, func(e treeEntry) bool { return e.Path == spec }) {
			return v.whole(repo)
		}
	}
	models := slices.DeleteFunc(slices.Clone(all), func(v variant) bool { return isCompanion(v.path()) })
	var fit []variant
	switch {
	case spec != "":
		fit = withQuant(models, spec)
	case len(models) <= 1:
		fit = models
	default:
		for _, q := range preferred {
			if fit = withQuant(models, q); len(fit) > 0 {
				break
			}
		}
		if len(fit) == 0 {
			fit = models
		}
	}
	switch len(fit) {
	case 0:
		if len(models) == 0 {
			return nil, fmt.Errorf("hf:%s: %w: the repository holds no GGUF model; look for one whose name ends in GGUF", repo, ErrNotFound)
		}
		return nil, fmt.Errorf("hf:%s: %w: there is no %s; there are %s", repo, ErrNotFound, spec, someOf(paths(models)))
	case 1:
		return fit[0].whole(repo)
	}
	return nil, &AmbiguousError{Repo: repo, Candidates: paths(fit)}
}

func paths(vs []variant) []string {
	var out []string
	for _, v := range vs {
		out = append(out, v.path())
	}
	return out
}

// variants puts the parts of split models together, in the order of their paths.
func variants(entries []treeEntry) []variant {
	var out []variant
	split := map[string]int{} // what the parts of one model have in common -> index in out
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b treeEntry) int { return cmp.Compare(a.Path, b.Path) })
	for _, e := range sorted {
		m := splitName.FindStringSubmatch(e.Path)
		if m == nil {
			out = append(out, variant{parts: []treeEntry{e}, count: 1})
			continue
		}
		key := m[1] + "/" + m[3]
		i, ok := split[key]
		if !ok {
			count, err := strconv.Atoi(m[3])
			if err != nil {
				continue
			}
			i = len(out)
			split[key] = i
			out = append(out, variant{count: count})
		}
		out[i].parts = append(out[i].parts, e)
	}
	return out
}

// whole returns the parts of v if none is missing.
func (v variant) whole(repo string) ([]treeEntry, error) {
	for i, e := range v.parts {
		if m := splitName.FindStringSubmatch(e.Path); m != nil && m[2] != fmt.Sprintf("%05d", i+1) {
			return nil, fmt.Errorf("hf:%s: %w: part %d of %s is missing in the repository", repo, ErrNotFound, i+1, v.path())
		}
	}
	if len(v.parts) != v.count {
		return nil, fmt.Errorf("hf:%s: %w: the repository has %d of the %d parts of %s", repo, ErrNotFound, len(v.parts), v.count, v.path())
	}
	return v.parts, nil
}

// isCompanion reports whether a GGUF file is no model of its own: a vision projector or an importance matrix.
func isCompanion(p string) bool {
	base := strings.ToLower(path.Base(p))
	return strings.Contains(base, "mmproj") || strings.Contains(base, "imatrix")
}

// withQuant returns those of vs that are of quantisation q. Where the name of one ends in q, those that merely have it
// somewhere do not count.
func withQuant(vs []variant, q string) []variant {
	tag := regexp.MustCompile(`(?i)(?:^|[-._/])` + regexp.QuoteMeta(q) + `(?:$|[-./])`)
	var end, inside []variant
	for _, v := range vs {
		stem := v.path()
		if m := splitName.FindStringSubmatch(stem); m != nil {
			stem = m[1]
		} else {
			stem = strings.TrimSuffix(stem, path.Ext(stem))
		}
		tags := tag.FindAllStringIndex(stem, -1)
		switch {
		case len(tags) == 0:
		case tags[len(tags)-1][1] == len(stem):
			end = append(end, v)
		default:
			inside = append(inside, v)
		}
	}
	if len(end) > 0 {
		return end
	}
	return inside
}
