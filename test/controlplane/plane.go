package controlplane

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/siskin-dev/siskin/test/process"
)

// Off is the value of SISKIN_CONTROLPLANE that skips the tests of this package, for machines without the minutes that the
// first build takes.
const Off = "off"

// identity is who speaks to the API server: a bearer token, a name and groups.
type identity struct{ token, name, groups string }

// Plane is a running control plane.
type Plane struct {
	Programs
	// Admin may do everything.
	Admin *rest.Config
	// Client is the admin's.
	Client client.WithWatch
	// ADS is where istiod answers proxies, in plain gRPC.
	ADS string

	tb                testing.TB
	dir               string
	api               string // address of the API server
	admin, controller identity
	etcd, server      *process.Process
	istiod            *process.Process
	env               []string // of istiod
	arguments         []string // the chart's, for the rollout controller
}

// Built are the programs, for a test that runs no control plane.
func Built(tb testing.TB) Programs {
	tb.Helper()
	if os.Getenv("SISKIN_CONTROLPLANE") == Off {
		tb.Skip("SISKIN_CONTROLPLANE=off: the real control plane is not run on this machine")
	}
	programs, err := Build(tb.Context(), tb.Logf)
	if err != nil {
		tb.Fatal(err)
	}
	return programs
}

// Start runs etcd, the API server with all CRDs and the chart's rights, and istiod, with env added to its environment, until the
// test ends: then they stop in the reverse order.
func Start(tb testing.TB, env ...string) *Plane {
	tb.Helper()
	log.SetLogger(logr.Discard())
	p := &Plane{
		Programs: Built(tb), tb: tb, dir: tb.TempDir(), env: env,
		admin:      identity{rand.Text(), "admin", "system:masters"},
		controller: identity{rand.Text(), "system:serviceaccount:" + Namespace + ":" + account, "system:serviceaccounts"},
	}
	began := time.Now()
	p.startEtcd()
	p.startAPIServer()
	p.install()
	p.ADS = process.FreeAddr(tb)
	p.startIstiod()
	tb.Logf("the control plane was ready after %s", time.Since(began).Round(100*time.Millisecond))
	return p
}

// For is the same control plane, whose failures are those of another test.
func (p *Plane) For(tb testing.TB) *Plane {
	other := *p
	other.tb = tb
	return &other
}

func (p *Plane) startEtcd() {
	p.tb.Helper()
	clients, peers := "http://"+process.FreeAddr(p.tb), "http://"+process.FreeAddr(p.tb)
	p.etcd = process.Run(p.tb, p.dir, "etcd", p.Etcd, nil, "--data-dir="+filepath.Join(p.dir, "etcd"), "--log-level=warn", "--unsafe-no-fsync",
		"--listen-client-urls="+clients, "--advertise-client-urls="+clients,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=default="+peers)
	p.until("etcd", p.etcd, process.Answers(clients+"/health"))
	p.api = clients
}

func (p *Plane) startAPIServer() {
	p.tb.Helper()
	etcd, key, tokens := p.api, p.path("service-account.key"), p.path("tokens.csv")
	p.write(key, serviceAccountKey(p.tb))
	p.write(tokens, p.admin.line()+p.controller.line())
	p.write(p.path("audit.yaml"), p.auditPolicy())
	p.api = process.FreeAddr(p.tb)
	_, port, err := net.SplitHostPort(p.api)
	if err != nil {
		p.tb.Fatal(err)
	}
	p.server = process.Run(p.tb, p.dir, "kube-apiserver", p.APIServer, nil, "--etcd-servers="+etcd, "--secure-port="+port,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--cert-dir="+p.path("certificates"),
		"--service-account-key-file="+key, "--service-account-signing-key-file="+key,
		"--service-account-issuer=https://kubernetes.default.svc", "--token-auth-file="+tokens, "--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.96.0.0/16", "--disable-admission-plugins=ServiceAccount",
		"--audit-policy-file="+p.path("audit.yaml"), "--audit-log-path="+p.path("audit.log"))
	p.until("the API server", p.server, func(ctx context.Context) error {
		p.Admin = p.Config(p.admin)
		p.Client, err = client.NewWithWatch(p.Admin, client.Options{})
		if err != nil {
			return err
		}
		return ready(ctx, p.Admin)
	})
}

// line is the identity in the form of the API server's token file.
func (i identity) line() string {
	return fmt.Sprintf("%s,%s,%s,%q\n", i.token, i.name, i.name, i.groups)
}

// ready asks the API server whether it serves.
func ready(ctx context.Context, config *rest.Config) error {
	c, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	return process.AnswersTo(c, config.Host+"/readyz")(ctx)
}

// RestartIstiod stops istiod and starts another one at the same address.
func (p *Plane) RestartIstiod() {
	p.tb.Helper()
	if err := p.istiod.Stop(); err != nil {
		p.tb.Fatal(err)
	}
	p.startIstiod()
}

func (p *Plane) startIstiod() {
	p.tb.Helper()
	web := process.FreeAddr(p.tb)
	networks, mesh := p.path("networks.yaml"), p.path("mesh.yaml")
	p.write(networks, "{}\n")
	p.write(mesh, "{}\n")
	env := append([]string{"POD_NAME=istiod", "POD_NAMESPACE=istio-system", "PILOT_CERT_PROVIDER=istiod"}, p.env...)
	p.istiod = process.Run(p.tb, p.dir, "istiod", p.Istiod, env, "discovery", "--kubeconfig="+p.Kubeconfig(p.admin), "--meshConfig="+mesh,
		"--networksConfig="+networks, "--grpcAddr="+p.ADS, "--httpAddr="+web, "--httpsAddr="+process.FreeAddr(p.tb),
		"--monitoringAddr="+process.FreeAddr(p.tb), "--secureGRPCAddr="+process.FreeAddr(p.tb))
	p.until("istiod", p.istiod, process.Answers("http://"+web+"/ready"))
}

// Config speaks to the API server as somebody.
func (p *Plane) Config(as identity) *rest.Config {
	return &rest.Config{
		Host: "https://" + p.api, BearerToken: as.token, QPS: -1, Timeout: process.Answering,
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(p.path("certificates"), "apiserver.crt")},
	}
}

// AdminKubeconfig is the path of the admin's kubeconfig file.
func (p *Plane) AdminKubeconfig() string {
	p.tb.Helper()
	return p.Kubeconfig(p.admin)
}

// Kubeconfig writes a kubeconfig file for somebody and returns its path.
func (p *Plane) Kubeconfig(as identity) string {
	p.tb.Helper()
	return p.kubeconfig(as, strings.ReplaceAll(as.name, ":", "-"), "https://"+p.api, p.Config(as).CAFile)
}

func (p *Plane) kubeconfig(as identity, file, server, authority string) string {
	p.tb.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: server, CertificateAuthority: authority}
	config.AuthInfos["test"] = &clientcmdapi.AuthInfo{Token: as.token}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	config.CurrentContext = "test"
	path := p.path(file + ".kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		p.tb.Fatal(err)
	}
	return path
}

func (p *Plane) path(name string) string { return filepath.Join(p.dir, name) }

func (p *Plane) write(path, text string) {
	p.tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.tb.Fatal(err)
	}
}

// until waits for a program to say that it is ready, and not longer than it lives.
func (p *Plane) until(what string, program *process.Process, ask func(ctx context.Context) error) {
	p.tb.Helper()
	Until(p.tb, what, func(ctx context.Context) error {
		if err := program.Running(); err != nil {
			p.tb.Fatalf("waiting for %s: %v", what, err)
		}
		return ask(ctx)
	})
}

// Until asks again and again until the answer is nil, as process.Until does.
func Until(tb testing.TB, what string, ask func(ctx context.Context) error) {
	tb.Helper()
	process.Until(tb, what, ask)
}

// serviceAccountKey is what the API server signs the tokens of service accounts with.
func serviceAccountKey(tb testing.TB) string {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}
