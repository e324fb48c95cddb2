package cgroup

import (
	"regexp"
	"strings"
)

// Ref names what runs in a cgroup. Either part may be empty.
type Ref struct {
	// Pod is the uid as Kubernetes writes it, with dashes; of a static pod, the 32 digits of its manifest's hash.
	Pod string
	// Container is the id of 64 hexadecimal digits.
	Container string
}

// podName matches a pod's directory: "pod<uid>" (cgroupfs) or "kubepods-burstable-pod<uid>.slice" (systemd, which writes
// "_" for "-"; kind prefixes "kubelet-"). The uid of a static pod is a hash without dashes.
var podName = regexp.MustCompile(
	`^(?:(?:[a-z]+-)*kubepods(?:-besteffort|-burstable)?-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?::|$)`)

// containerName matches a container's directory: the bare id, or one with its runtime before it ("cri-containerd-<id>.scope",
// "crio-<id>.scope", "docker-<id>", "<slice>:cri-containerd:<id>", "libpod-<id>.scope").
var containerName = regexp.MustCompile(`(?:^|[-:])([0-9a-f]{64})(?:\.scope)?$`)

// conmon is CRI-O's monitor of a container, not the container.
const conmon = "crio-conmon-"

// Parse reads a cgroup's path, bare or as a line of /proc/PID/cgroup ("0::/path", "11:blkio:/path"). The deepest match
// wins, since nodes may themselves be containers. It says false if neither a pod nor a container is in it.
func Parse(path string) (Ref, bool) {
	if !strings.HasPrefix(path, "/") {
		if parts := strings.SplitN(path, ":", 3); len(parts) == 3 {
			path = parts[2]
		}
	}
	var ref Ref
	for name := range strings.SplitSeq(path, "/") {
		if uid := podUID(name); uid != "" {
			ref = Ref{Pod: uid}
		}
		if m := containerName.FindStringSubmatch(name); m != nil && !strings.HasPrefix(name, conmon) {
			ref.Container = m[1]
		}
	}
	return ref, ref != Ref{}
}

// podUID is the uid in the name of a pod's directory, or empty.
func podUID(name string) string {
	m := podName.FindStringSubmatch(name)
	if m == nil {
		return ""
	}
	return strings.ReplaceAll(m[1], "_", "-")
}
