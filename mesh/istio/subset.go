package istio

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// maxLabel is the length of the longest DNS label.
const maxLabel = 63

// hashMark separates a changed name from the hash of the version. A version that contains it is hashed as well, so that
// no version can look like another one's subset.
const hashMark = "--"

// hashDigits is the length of the hash in hexadecimal digits, 40 bits.
const hashDigits = 10

// The patterns, compiled once and never changed.
var (
	dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	notLabel = regexp.MustCompile(`[^a-z0-9]+`)
)

// SubsetName is the name of a version's subset: the version itself where that is a DNS label, else its readable part
// and a short hash of it. Different versions have different names.
func SubsetName(version string) string {
	if len(version) <= maxLabel && dnsLabel.MatchString(version) && !strings.Contains(version, hashMark) {
		return version
	}
	sum := sha256.Sum256([]byte(version))
	readable := notLabel.ReplaceAllString(strings.ToLower(version), "-")
	readable = readable[:min(len(readable), maxLabel-len(hashMark)-hashDigits)]
	readable = strings.Trim(readable, "-")
	if readable == "" {
		readable = "v"
	}
	return readable + hashMark + hex.EncodeToString(sum[:])[:hashDigits]
}
