package cgroup

import (
	"strings"
	"testing"
)

const (
	uid        = "01234567-89ab-cdef-0123-456789abcdef"
	uidSystemd = "01234567_89ab_cdef_0123_456789abcdef"
	staticUID  = "0123456789abcdef0123456789abcdef"
)

var (
	id    = strings.Repeat("0123456789abcdef", 4)
	outer = strings.Repeat("f", 64)
)

func TestParse(t *testing.T) {
	cases := map[string]struct {
		path string
		want Ref
	}{
		"CRIO":              {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidSystemd + ".slice/crio-" + id + ".scope", Ref{uid, id}},
		"V1":                {"11:blkio:/kubepods/burstable/pod" + uid + "/" + id, Ref{uid, id}},
		"V1Controllers":     {"4:cpu,cpuacct:/kubepods/besteffort/pod" + uid + "/" + id, Ref{uid, id}},
		"Guaranteed":        {"0::/kubepods/pod" + uid + "/" + id, Ref{uid, id}},
		"GuaranteedSystemd": {"/kubepods.slice/kubepods-pod" + uidSystemd + ".slice/cri-containerd-" + id + ".scope", Ref{uid, id}},
		"Colons":            {"0::/system.slice/containerd.service/kubepods-burstable-pod" + uidSystemd + ".slice:cri-containerd:" + id, Ref{uid, id}},
		"PodOnly":           {"/kubepods/burstable/pod" + uid, Ref{uid, ""}},
		"Static":            {"/kubepods/burstable/pod" + staticUID + "/" + id, Ref{staticUID, id}},
		"Docker":            {"/docker-" + id, Ref{"", id}},
		"DockerScope":       {"0::/system.slice/docker-" + id + ".scope", Ref{"", id}},
		"Kind":              {"/docker/" + outer + "/kubelet/kubepods/besteffort/pod" + uid + "/" + id, Ref{uid, id}},
		"KindSystemd":       {"/docker/" + outer + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + uidSystemd + ".slice/cri-containerd-" + id + ".scope", Ref{uid, id}},
		"KindPod":           {"/docker/" + outer + "/kubelet/kubepods/besteffort/pod" + uid, Ref{uid, ""}},
		"Podman":            {"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope/container", Ref{"", id}},
		"Conmon":            {"/kubepods.slice/kubepods-pod" + uidSystemd + ".slice/crio-conmon-" + id + ".scope", Ref{uid, ""}},
		"Service":           {"0::/system.slice/ssh.service", Ref{}},
		"ShortID":           {"/docker/" + id[:63], Ref{}},
		"LongID":            {"/docker/" + id + "0", Ref{}},
		"PodLike":           {"/podman/pods/pod-of-peas", Ref{}},
		"Root":              {"/", Ref{}},
		"Empty":             {"", Ref{}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, ok := Parse(tc.path)
			if got != tc.want || ok != (tc.want != Ref{}) {
				t.Errorf("Parse(%q) = %+v, %v; want %+v", tc.path, got, ok, tc.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0::/kubepods/pod" + uid + "/" + id)
	f.Add("/kubepods.slice/kubepods-pod" + uidSystemd + ".slice:cri-containerd:" + id)
	f.Add("1:a:b:c")
	f.Fuzz(func(t *testing.T, path string) {
		ref, ok := Parse(path)
		if ok != (ref != Ref{}) || (ref.Container != "" && len(ref.Container) != 64) {
			t.Errorf("Parse(%q) = %+v, %v", path, ref, ok)
		}
		if n := len(ref.Pod); n != 0 && n != 32 && n != 36 || strings.Contains(ref.Pod, "_") {
			t.Errorf("Parse(%q) = %+v: no uid", path, ref)
		}
	})
}
