package controlplane

import (
	"crypto/rand"
	"testing"
	"time"
)

func TestTmp(t *testing.T) {
	p := &Plane{
		Programs: Programs{"/tmp/h/e2e/etcd", "/tmp/h/e2e/kube-apiserver", ""}, tb: t, dir: t.TempDir(),
		admin:      identity{rand.Text(), "admin", "system:masters"},
		controller: identity{rand.Text(), "system:serviceaccount:" + Namespace + ":" + account, "system:serviceaccounts"},
	}
	b := time.Now()
	p.startEtcd()
	t.Log("etcd", time.Since(b))
	p.startAPIServer()
	t.Log("api", time.Since(b))
	p.install()
	t.Log("install", time.Since(b))
	c := p.StartController("first", p.StartPrometheus("{}"))
	t.Log("controller", time.Since(b))
	time.Sleep(8 * time.Second)
	for a, n := range p.Audit() {
		t.Log(a, n)
	}
	b = time.Now()
	t.Log(c.Stop(), time.Since(b))
	t.Cleanup(func() { t.Log("end", time.Since(b)) })
}
