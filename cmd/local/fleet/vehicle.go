package fleet

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/siskin-dev/siskin/ingest"
)

// vinPrefix begins the VIN of every vehicle of the fleet; eight digits follow. The ninth character of a North American
// VIN is a check digit, never a letter other than X, so no car there can have one of these.
const vinPrefix = "SSKNFLEET"

// VIN is the synthetic VIN of vehicle i, below 10^8.
func VIN(i int) string { return fmt.Sprintf("%s%08d", vinPrefix, i) }

// vehicle replays one trip after another. Only the worker that holds it (busy) touches it.
type vehicle struct {
	url   string
	run   string
	trips []Trip
	draw  *rand.Rand
	// stride is the number of rows from one measurement to the next.
	stride int
	busy   atomic.Bool

	trip, row int
	drives    int    // trips begun
	seq       uint64 // measurements since the drive began
}

// newVehicle puts vehicle i on a trip and a row of it, both by the seed.
func newVehicle(i int, o Options) *vehicle {
	v := &vehicle{
		url:    o.URL + "/v1/vehicles/" + VIN(i) + "/measurements",
		run:    o.Run,
		trips:  o.Trips,
		stride: o.Stride,
		draw:   rand.New(rand.NewPCG(o.Seed, uint64(i))),
	}
	v.trip = v.draw.IntN(len(v.trips))
	v.row = v.draw.IntN(len(v.trips[v.trip].Rows))
	v.drives = 1
	return v
}

// next goes on by a stride; after the last one another trip begins, and with it a new boot.
func (v *vehicle) next() {
	v.seq++
	if v.row += v.stride; v.row < len(v.trips[v.trip].Rows) {
		return
	}
	if n := len(v.trips); n > 1 {
		v.trip = (v.trip + 1 + v.draw.IntN(n-1)) % n
	}
	v.row, v.seq = 0, 0
	v.drives++
}

// appendBody writes the present row as a flat measurement.
func (v *vehicle) appendBody(dst []byte, schema *ingest.Schema, now time.Time) []byte {
	dst = append(dst, `{"boot":"`...)
	dst = append(dst, v.run...)
	dst = append(dst, '-')
	dst = strconv.AppendInt(dst, int64(v.drives), 10)
	dst = append(dst, `","seq":`...)
	dst = strconv.AppendUint(dst, v.seq, 10)
	dst = append(dst, `,"ts":"`...)
	dst = now.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `",`...)
	at := len(dst)
	dst = schema.AppendJSON(dst, v.trips[v.trip].Rows[v.row])
	return append(dst[:at], dst[at+1:]...) // without the inner brace
}
