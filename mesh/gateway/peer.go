package gateway

import "strings"

// peer is how the metrics name a destination.
type peer struct {
	service, serviceName, serviceNamespace, workload, workloadNamespace, version, revision, app string
}

// unknown is Istio's word for a label without a value.
const unknown = "unknown"

func orUnknown(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return unknown
}

// nobody is the destination of requests that no route wants.
func nobody() peer {
	return peer{unknown, unknown, unknown, unknown, unknown, unknown, unknown, unknown}
}

// servicePeer names a service of which no endpoint was chosen yet.
func servicePeer(host string, s *service) peer {
	p := nobody()
	p.service, p.serviceName = host, host
	if short, ok := strings.CutSuffix(host, clusterDomain); ok {
		p.serviceName, p.serviceNamespace, _ = strings.Cut(short, ".")
	} else if s != nil {
		p.serviceNamespace = s.namespace
	}
	return p
}

// labelled adds what labels say: an endpoint's own, or those that a subset asks for.
func (p peer) labelled(labels map[string]string) peer {
	p.version = orUnknown(labels[labelVersion], p.version)
	p.revision = orUnknown(labels[labelCanonicalRevision], labels[labelVersion], p.revision)
	p.app = orUnknown(labels[labelApp], p.app)
	return p
}
