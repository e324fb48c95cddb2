package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/siskin-dev/siskin/energy"
)

const (
	nanosecondsPerMicrosecond = 1000
	// nanosecondsPerTick is 1 s / USER_HZ, which is 100 in the interface of Linux whatever the kernel's own rate.
	nanosecondsPerTick = 10_000_000
)

// parseCPUStat finds usage_usec in a version 2 cpu.stat and returns nanoseconds.
func parseCPUStat(text []byte) (uint64, error) {
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if string(name) == "usage_usec" {
			return scaled(string(value), nanosecondsPerMicrosecond)
		}
	}
	return 0, errors.New("parsing cpu.stat: must have usage_usec")
}

// parseUsage reads a version 1 cpuacct.usage, in nanoseconds.
func parseUsage(text []byte) (uint64, error) {
	return scaled(string(bytes.TrimSpace(text)), 1)
}

const (
	sharesPerCPU     = 1024
	millicoresPerCPU = 1000
	// minShares is what the kubelet writes for a pod that requests nothing.
	minShares = 2
)

// parseShares reads a version 1 cpu.shares as the CPU requests in millicores that the kubelet made it from.
func parseShares(text []byte) (uint64, error) {
	shares, err := scaled(string(bytes.TrimSpace(text)), millicoresPerCPU)
	if err != nil || shares <= minShares*millicoresPerCPU {
		return 0, err
	}
	// Rounded up, since the kubelet rounded down.
	return shares/sharesPerCPU + min(shares%sharesPerCPU, 1), nil
}

// The fields of a cpu line of /proc/stat that are not work: idle and iowait, and steal, which another machine burnt.
// Guest time (the ninth and tenth) is in user and nice already.
const (
	statFields = 7 // user nice system idle iowait irq softirq
	idleField  = 3
	waitField  = 4
)

// parseStat reads /proc/stat: the busy time of all CPUs and their number.
func parseStat(text []byte) (energy.BusyTime, error) {
	var busy energy.BusyTime
	total := false
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1) // the line of interrupts is longer than the default
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "cpu") {
			continue
		}
		if !strings.HasPrefix(line, "cpu ") {
			busy.CPUs++
			continue
		}
		ns, err := busyTime(strings.Fields(line)[1:])
		if err != nil {
			return energy.BusyTime{}, err
		}
		busy.Nanoseconds, total = ns, true
	}
	if !total || busy.CPUs == 0 {
		return energy.BusyTime{}, errors.New("parsing /proc/stat: must have a line for all CPUs and one for each")
	}
	return busy, lines.Err()
}

func busyTime(fields []string) (uint64, error) {
	if len(fields) < statFields {
		return 0, fmt.Errorf("parsing /proc/stat: cpu line has %d fields, must have %d or more", len(fields), statFields)
	}
	var sum uint64
	for i, field := range fields[:statFields] {
		if i == idleField || i == waitField {
			continue
		}
		ns, err := scaled(field, nanosecondsPerTick)
		if err != nil {
			return 0, fmt.Errorf("parsing cpu line of /proc/stat: %w", err)
		}
		var carry uint64
		if sum, carry = bits.Add64(sum, ns, 0); carry != 0 {
			return 0, errors.New("parsing cpu line of /proc/stat: must be less than 2^64 ns")
		}
	}
	return sum, nil
}

// scaled parses decimal digits and multiplies them.
func scaled(text string, unit uint64) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parsing %q: must be a whole number of 0 or more", text)
	}
	hi, lo := bits.Mul64(n, unit)
	if hi != 0 {
		return 0, fmt.Errorf("parsing %q: must be less than 2^64 after conversion", text)
	}
	return lo, nil
}
