//go:build !linux

package serving

import "time"

// ThreadCPUTime has no source outside Linux: it stands still, and no CPU time is charged.
func ThreadCPUTime() time.Duration { return 0 }
