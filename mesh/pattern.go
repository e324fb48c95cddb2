package mesh

import (
	"fmt"
	"strings"
)

// FormatBucket writes a bucket the way headers and cookies carry it: two digits, "00" to "99".
func FormatBucket(bucket int) string { return fmt.Sprintf("%02d", bucket) }

// BucketPattern is the anchored RE2 expression that matches the two digits of exactly the given buckets, such as
// ^(0[37]|17|4[0-25])$. It is at most 120 characters long for any set, well below the 1024 that a data plane accepts.
// The empty set has no pattern: the result is "".
func BucketPattern(buckets []int) string {
	if len(buckets) == 0 {
		return ""
	}
	return "^(" + alternation(buckets) + ")$"
}

// cookiePattern matches a whole Cookie header in which the named cookie holds one of the buckets. It is anchored on
// cookie boundaries, so that neither a longer name nor a longer value counts, and it allows other cookies on both sides.
func cookiePattern(name string, buckets []int) string {
	return `(^|.*;\s*)` + name + "=(" + alternation(buckets) + ")(;.*|$)"
}

// alternation lists the tens that share the same units once: 0[37]|17 or [0-9][0-9].
func alternation(buckets []int) string {
	var units [10][10]bool
	for _, b := range buckets {
		units[b/10][b%10] = true
	}
	var alternatives []string
	for ten := range units {
		tens, first := sharing(units, ten)
		if first && units[ten] != [10]bool{} {
			alternatives = append(alternatives, class(tens)+class(units[ten]))
		}
	}
	return strings.Join(alternatives, "|")
}

// sharing says which tens have the same units as ten, and whether ten is the first of them.
func sharing(units [10][10]bool, ten int) (tens [10]bool, first bool) {
	first = true
	for other := range units {
		tens[other] = units[other] == units[ten]
		if tens[other] && other < ten {
			first = false
		}
	}
	return tens, first
}

// class writes a set of digits: 7 alone, [37], or [0-25] with runs of three and more shortened.
func class(digits [10]bool) string {
	var b strings.Builder
	count := 0
	for from := 0; from < 10; from++ {
		if !digits[from] {
			continue
		}
		to := from
		for to < 9 && digits[to+1] {
			to++
		}
		count += to - from + 1
		b.WriteString(run(from, to))
		from = to
	}
	if count == 1 {
		return b.String()
	}
	return "[" + b.String() + "]"
}

// run writes the digits from..to inside a class.
func run(from, to int) string {
	switch to - from {
	case 0:
		return fmt.Sprint(from)
	case 1:
		return fmt.Sprint(from) + fmt.Sprint(to)
	}
	return fmt.Sprintf("%d-%d", from, to)
}
