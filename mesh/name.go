package mesh

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// maxLabel is the length of the longest DNS label.
const maxLabel = 63

// hashMark separates a changed name from the hash of what it was. A name that contains it is hashed as well, so that no
// name can look like another one's label.
const hashMark = "--"

// hashDigits is the length of the hash in hexadecimal digits, 40 bits.
const hashDigits = 10

// The patterns, compiled once and never changed.
var (
	dnsLabel = regexp.MustCompile(`^` + label + `$`)
	notLabel = regexp.MustCompile(`[^a-z0-9]+`)
)

// DNSLabel turns a name, such as a version, into a DNS label: the name itself where it is one, else its readable part and a
// short hash of it. Different names have different labels.
func DNSLabel(name string) string {
	if len(name) <= maxLabel && dnsLabel.MatchString(name) && !strings.Contains(name, hashMark) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	readable := notLabel.ReplaceAllString(strings.ToLower(name), "-")
	readable = readable[:min(len(readable), maxLabel-len(hashMark)-hashDigits)]
	readable = strings.Trim(readable, "-")
	if readable == "" {
		readable = "v"
	}
	return readable + hashMark + hex.EncodeToString(sum[:])[:hashDigits]
}

// Of is the name of the Kubernetes Service of one version alone, for data planes that tell versions apart by Services.
func (s Service) Of(version string) string { return DNSLabel(s.Name + "-" + version + "-pods") }
