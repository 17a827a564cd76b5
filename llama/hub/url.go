package hub

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strconv"
)

// splitName is how llama.cpp (llama_split_path) names the parts of a model: PREFIX-00001-of-00003.gguf.
var splitName = regexp.MustCompile(`^(.+)-(\d{5})-of-(\d{5})(\.(?i:gguf))$`)

// maxParts bounds what a name alone can make us ask for.
const maxParts = 1000

// urlDir is the directory of a URL's model in the cache.
func urlDir(u *url.URL) string {
	return dirName("url-"+u.Hostname()+"-"+path.Base(u.Path), u.String())
}

func resolveURL(r reference) (*target, error) {
	t := &target{ref: r.text, dir: urlDir(r.url), source: r.text}
	m := splitName.FindStringSubmatch(path.Base(r.url.Path))
	if m == nil {
		t.files = []remote{{name: fileName(r.url.Path), url: r.url.String()}}
		return t, nil
	}
	count, err := strconv.Atoi(m[3])
	if err != nil || count < 1 || count > maxParts || m[2] != "00001" {
		return nil, &RefError{r.text, "of a split model, give the first part, named -00001-of-NNNNN.gguf"}
	}
	for i := 1; i <= count; i++ {
		name := fmt.Sprintf("%s-%05d-of-%s%s", m[1], i, m[3], m[4])
		u := *r.url
		u.Path, u.RawPath = path.Join(path.Dir(r.url.Path), name), ""
		t.files = append(t.files, remote{name: fileName(name), url: u.String()})
	}
	return t, nil
}
