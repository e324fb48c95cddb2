package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// What somebody, such as a mutating webhook, changes in our objects on their way into the API cannot be put right by writing them
// again. The status and an event say what it is.

// noteAltered tells of the objects that are not as this pass has just written them, and remembers them for the passes to come.
func (r *Reconciler) noteAltered(p *pass, o Objects) {
	p.altered = map[string]string{}
	for _, want := range append(o.written(), o.Limits...) {
		live, read := p.live[keyOf(want)]
		if !read || sameSpec(live, want) {
			continue
		}
		p.altered[keyOf(want)] = fmt.Sprintf("%s %q is changed as it is written (look for a mutating webhook): %s", want.GetKind(), want.GetName(), differences(live, want))
	}
	r.calm.only(p, string(reasonRestricted), slices.Collect(maps.Keys(p.altered)))
	for _, key := range slices.Sorted(maps.Keys(p.altered)) {
		r.warn(p, string(reasonRestricted), key, fmt.Errorf("%s", p.altered[key]))
	}
}

// The longest that a field's path and a value are shown, in bytes, and how many fields: an event has room for 1024 bytes.
const (
	longestPath  = 80
	longestValue = 56
	mostFields   = 3
)

// differences says in which fields a live object is not what is wanted, by the rules of sameSpec.
func differences(live, want *unstructured.Unstructured) string {
	d := differ{lax: filledIn(want)}
	have, wanted := compared(live, want)
	d.walk(body(want), have, wanted)
	mine, theirs := map[string]any{}, map[string]any{}
	for key, value := range want.GetAnnotations() {
		if ofSiskin(key) && !d.lax {
			continue
		}
		mine[key] = value
		if at, there := live.GetAnnotations()[key]; there {
			theirs[key] = at
		}
	}
	for _, key := range foreignAnnotations(live, want) {
		theirs[key] = live.GetAnnotations()[key]
	}
	d.walk("metadata.annotations", theirs, mine)
	if more := len(d.found) - mostFields; more > 0 {
		return fmt.Sprintf("%s, and %d more", strings.Join(d.found[:mostFields], ", "), more)
	}
	return strings.Join(d.found, ", ")
}

// differ gathers the fields in which one value is not another one. Lax, it minds only what is wanted.
type differ struct {
	lax   bool
	found []string
}

// absent stands for a field that is not there.
type absent struct{}

func (d *differ) walk(path string, live, want any) {
	switch w := want.(type) {
	case map[string]any:
		if l, ok := live.(map[string]any); ok {
			d.fields(path, l, w)
			return
		}
	case []any:
		if l, ok := live.([]any); ok && len(l) == len(w) {
			for i := range w {
				d.walk(fmt.Sprintf("%s[%d]", path, i), l[i], w[i])
			}
			return
		} else if ok {
			d.found = append(d.found, fmt.Sprintf("%s has %d elements, written %d", begun(path, longestPath), len(l), len(w)))
			return
		}
	}
	if reflect.DeepEqual(live, want) || d.lax && covers(live, want) {
		return
	}
	path = begun(path, longestPath)
	switch {
	case live == absent{}:
		d.found = append(d.found, fmt.Sprintf("%s is missing, written %s", path, shortly(want)))
	case want == absent{}:
		d.found = append(d.found, fmt.Sprintf("%s is %s, not written", path, shortly(live)))
	default:
		d.found = append(d.found, fmt.Sprintf("%s is %s, written %s", path, shortly(live), shortly(want)))
	}
}

func (d *differ) fields(path string, live, want map[string]any) {
	all := maps.Clone(want)
	if !d.lax {
		maps.Copy(all, live)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		l, there := live[name]
		if !there {
			l = absent{}
		}
		w, wanted := want[name]
		if !wanted {
			w = absent{}
		}
		d.walk(path+member(name), l, w)
	}
}

// plainName is a field that can be written behind a dot.
var plainName = regexp.MustCompile(`^[\w-]+$`)

func member(name string) string {
	if plainName.MatchString(name) {
		return "." + name
	}
	return "[" + strconv.Quote(name) + "]"
}

// shortly writes a value as JSON, or its beginning.
func shortly(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return begun(string(raw), longestValue)
}

// begun is a text, or its beginning.
func begun(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return cut(text, most) + "..."
}
