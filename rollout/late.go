package rollout

import "time"

// ahead is how far an instant that is yet to come is noted ahead of the clock.
const ahead = time.Minute

// Awaited is what to note at now of an instant that has not come since another one, where noted was before. At the first look it is
// now. Whoever looks again notes one that is a little ahead, and the same until that is past, so that looking every second
// does not change what is stored. It is never earlier than what is awaited.
func Awaited(noted, since, now time.Time) time.Time {
	switch {
	case noted.After(now):
		return noted
	case !noted.After(since):
		return now
	}
	return now.Add(ahead)
}

// Arrived is what to note once it has come: no later than now.
func Arrived(noted, now time.Time) time.Time {
	if noted.After(now) {
		return now
	}
	return noted
}
