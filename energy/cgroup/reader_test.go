package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/energy"
)

// plant writes a tree of files and returns its root.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func pod(uid string, cpu, requests uint64) energy.Party {
	return energy.Party{ID: energy.ID{Instance: uid}, CPU: cpu, Requests: requests}
}

// podsCase is a tree of cgroups and what must be read from it.
type podsCase struct {
	reason string
	files  map[string]string
	want   []energy.Party
	errs   []string
}

func podsCases() map[string]podsCase {
	const uid2 = "fedcba98-7654-3210-fedc-ba9876543210"
	burstable := "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidSystemd + ".slice/"
	return map[string]podsCase{
		"V2": {
			reason: "a pod is its own directory; containers in it and slices around it are not read again",
			files: map[string]string{
				"cgroup.controllers": "cpu memory\n", "cpu.stat": "usage_usec 99999\n",
				"kubepods.slice/cpu.stat":                    "usage_usec 5000\n",
				burstable + "cpu.stat":                       "usage_usec 3000\n",
				burstable + "crio-" + id + ".scope/cpu.stat": "usage_usec 2000\n",
				"kubepods.slice/kubepods-pod" + strings.ReplaceAll(uid2, "-", "_") + ".slice/cpu.stat": "usage_usec 2000\n",
				"system.slice/ssh.service/cpu.stat":                                                    "usage_usec 7\n",
			},
			want: []energy.Party{pod(uid, 3_000_000, 0), pod(uid2, 2_000_000, 0)},
		},
		"V1": {
			reason: "version 1 tells nanoseconds and requests",
			files: map[string]string{
				"cpu,cpuacct/cpuacct.usage":                                   "12345\n",
				"cpu,cpuacct/kubepods/burstable/pod" + uid + "/cpuacct.usage": "777\n",
				"cpu,cpuacct/kubepods/burstable/pod" + uid + "/cpu.shares":    "256\n",
			},
			want: []energy.Party{pod(uid, 777, 250)},
		},
		"Hybrid": {
			reason: "cpuacct mounted apart from cpu, and version 2 beside it without controllers",
			files: map[string]string{
				"cpuacct/cpuacct.usage": "12345\n", "unified/cgroup.controllers": "",
				"cpuacct/kubepods/pod" + uid + "/cpuacct.usage": "777\n",
			},
			want: []energy.Party{pod(uid, 777, 0)},
		},
		"PodInPod": {
			reason: "what runs inside a pod is the pod's",
			files: map[string]string{
				"cgroup.controllers":               "cpu\n",
				"kubepods/pod" + uid + "/cpu.stat": "usage_usec 9\n",
				"kubepods/pod" + uid + "/" + id + "/kubepods/pod" + uid2 + "/cpu.stat": "usage_usec 5\n",
			},
			want: []energy.Party{pod(uid, 9000, 0)},
		},
		"Broken": {
			reason: "a pod that cannot be read is named, one that is gone is not, and the others are returned",
			files: map[string]string{
				"cgroup.controllers":                    "cpu\n",
				"kubepods/pod" + uid + "/cpu.stat":      "usage_usec nan\n",
				"kubepods/pod" + uid2 + "/cpu.stat":     "usage_usec 9\n",
				"kubepods/pod" + staticUID + "/cpu.max": "max\n",
			},
			want: []energy.Party{pod(uid2, 9000, 0)},
			errs: []string{`pod "` + uid + `"`, `"nan"`},
		},
		"NoPods": {reason: "a node without Kubernetes", files: map[string]string{"cgroup.controllers": "cpu\n"}},
	}
}

func TestPods(t *testing.T) {
	for name, tc := range podsCases() {
		t.Run(name, func(t *testing.T) {
			pods, err := NewPods(plant(t, tc.files))
			if err != nil {
				t.Fatal(err)
			}
			got, err := pods.Usage()
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: -want +got:\n%s", tc.reason, diff)
			}
			if (err != nil) != (len(tc.errs) > 0) {
				t.Errorf("%s: Usage() = %v", tc.reason, err)
			}
			for _, want := range tc.errs {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s: the error must say %q: got %v", tc.reason, want, err)
				}
			}
		})
	}
}

func TestNewPodsWithoutCgroups(t *testing.T) {
	if _, err := NewPods(t.TempDir()); err == nil {
		t.Error("NewPods in an empty directory: got no error")
	}
}

func TestNodeErrors(t *testing.T) {
	if _, err := NewNode(t.TempDir()).Busy(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Busy() without /proc/stat: got %v", err)
	}
	root := plant(t, map[string]string{"stat": "cpu x\n"})
	if _, err := NewNode(root).Busy(); err == nil || !strings.Contains(err.Error(), root) {
		t.Errorf("Busy() must name the bad file: got %v", err)
	}
}

// The kernel of this machine is one that the readers must understand.
func TestThisMachine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads the kernel's own files, which only Linux has")
	}
	before, err := NewNode("").Busy()
	if err != nil {
		t.Fatal(err)
	}
	if before.CPUs < 1 || before.Nanoseconds == 0 {
		t.Errorf("Busy() = %+v", before)
	}
	// Work until the kernel has counted some of it: 10 ms of one CPU, if nobody else works.
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		after, err := NewNode("").Busy()
		if err != nil {
			t.Fatal(err)
		}
		if after.Nanoseconds > before.Nanoseconds {
			return
		}
	}
	t.Error("busy time stood still through 10 s of work")
}
