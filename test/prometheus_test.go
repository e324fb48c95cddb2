package test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/siskin-dev/siskin/test/process"
)

// prometheus is a Prometheus server.
type prometheus struct {
	*process.Process
	url string
	api promv1.API
}

// scrapes is a configuration that reads one target twice a second; more is what else to configure.
func scrapes(target, more string) string {
	return fmt.Sprintf(`
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}
scrape_configs:
- job_name: gateway
  static_configs: [{targets: ['%s']}]
%s`, target, more)
}

func startPrometheus(t *testing.T, config string) *prometheus {
	t.Helper()
	addr := process.FreeAddr(t)
	p := &prometheus{url: "http://" + addr}
	client, err := api.NewClient(api.Config{Address: p.url})
	if err != nil {
		t.Fatal(err)
	}
	p.api = promv1.NewAPI(client)
	p.Process = start(t, find(t, "prometheus", "prometheus"), "--config.file="+write(t, "prometheus.yaml", config),
		"--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+addr, "--log.level=warn")
	process.Until(t, "Prometheus", process.Answers(p.url+"/-/ready"))
	return p
}

// number is the value of a query with one result; 0 when nothing matches.
func (p *prometheus) number(ctx context.Context, query string) (float64, error) {
	v, _, _, err := p.api.Query(ctx, query, time.Now())
	if err != nil {
		return 0, err
	}
	vector, ok := v.(model.Vector)
	if !ok || len(vector) > 1 {
		return 0, fmt.Errorf("querying %q: got %v, want one number", query, v)
	}
	if len(vector) == 0 {
		return 0, nil
	}
	return float64(vector[0].Value), nil
}
