package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// firstTimeout bounds First: a prediction waits for it.
const firstTimeout = 100 * time.Millisecond

// First implements ingest.Units. It remembers for Options.UnitTTL.
func (l *Log) First(ctx context.Context, epoch, unit string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, firstTimeout)
	defer cancel()
	sum := sha256.Sum256([]byte(epoch))
	key := stateKey(unit) + ":met:" + hex.EncodeToString(sum[:8])
	err := l.client.SetArgs(ctx, key, 1, redis.SetArgs{Mode: "NX", TTL: l.options.UnitTTL}).Err()
	switch {
	case errors.Is(err, redis.Nil):
		return false, nil // it is there
	case err != nil:
		return false, fmt.Errorf("noting that unit %q was assigned: %w", unit, err)
	}
	return true, nil
}
