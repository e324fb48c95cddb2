package controller

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// calmFor is how long an object that no traffic waits for, once it was seen to be as wanted, is not looked at again: the alert
// rules, and a rate limit that is not there. A foreign edit of those lasts so long.
const calmFor = time.Minute

// calm remembers what was seen to be as wanted, and when. It spares reads and decides nothing: a new process looks again.
// Safe for concurrent use; each rollout's objects are looked at by one pass at a time.
type calm struct {
	mu   sync.Mutex
	seen map[client.ObjectKey]map[string]sight // by rollout, and by keyOf; guarded by mu
}

// sight is what an object was found to be. One that was seen for an earlier rollout of the name counts for nothing.
type sight struct {
	owner types.UID
	spec  any
	at    time.Time
}

// since says whether the very object was seen to be as wanted a short while ago.
func (c *calm) since(p *pass, want *unstructured.Unstructured) bool {
	at, ok := c.last(p, want)
	return ok && p.now.Before(at.Add(calmFor))
}

// ever says whether it was seen to be so at all.
func (c *calm) ever(p *pass, want *unstructured.Unstructured) bool {
	_, ok := c.last(p, want)
	return ok
}

// last is when the very object was seen to be as wanted.
func (c *calm) last(p *pass, want *unstructured.Unstructured) (at time.Time, ok bool) {
	c.mu.Lock()
	s, ok := c.seen[client.ObjectKeyFromObject(p.ro)][keyOf(want)]
	c.mu.Unlock()
	return s.at, ok && s.owner == p.ro.UID && reflect.DeepEqual(s.spec, want.Object[body(want)])
}

// note remembers that an object is as wanted, or is not there where none is wanted.
func (c *calm) note(p *pass, want *unstructured.Unstructured) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[client.ObjectKey]map[string]sight{}
	}
	mine := client.ObjectKeyFromObject(p.ro)
	if c.seen[mine] == nil {
		c.seen[mine] = map[string]sight{}
	}
	c.seen[mine][keyOf(want)] = sight{p.ro.UID, want.Object[body(want)], p.now}
}

// only forgets what was told for a reason, but for what is about these.
func (c *calm) only(p *pass, reason string, about []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.seen[client.ObjectKeyFromObject(p.ro)], func(key string, _ sight) bool {
		of, ours := strings.CutPrefix(key, reason+"/")
		return ours && !slices.Contains(about, of)
	})
}

// told is what was told for a reason last, by what it is about.
func (c *calm) told(ro *v1alpha1.Rollout, reason string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]string{}
	for key, s := range c.seen[client.ObjectKeyFromObject(ro)] {
		if of, ours := strings.CutPrefix(key, reason+"/"); ours && s.owner == ro.UID {
			all[of] = fmt.Sprint(s.spec)
		}
	}
	return all
}

// forget makes the next pass of a rollout look again.
func (c *calm) forget(ro client.ObjectKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, ro)
}
