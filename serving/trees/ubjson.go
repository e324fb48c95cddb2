package trees

import (
	"encoding/binary"
	"fmt"
	"math"
)

// maxDepth bounds the nesting of a UBJSON document; XGBoost's models nest about seven levels.
const maxDepth = 32

// numbers is a strongly typed UBJSON array, kept as the bytes of the file until somebody asks for its values. Most arrays
// of a model (gains, hessians, weights) are never asked for.
type numbers struct {
	kind byte
	data []byte
}

// ubReader reads UBJSON from memory. It allocates no more than a small multiple of the bytes it was given: every element
// of every array takes at least one byte of input.
type ubReader struct {
	data []byte
	at   int
}

// isUBJSON tells UBJSON from JSON. Both start with a brace, but in JSON a quote, a brace or white space follows, in UBJSON
// the type of the first key's length or a count.
func isUBJSON(data []byte) bool {
	if len(data) < 2 || data[0] != '{' {
		return false
	}
	switch data[1] {
	case 'i', 'U', 'I', 'l', 'L', '#', '$', 'N':
		return true
	}
	return false
}

func (r *ubReader) fail(format string, args ...any) error {
	return fmt.Errorf("%w: reading UBJSON at byte %d: %s", ErrMalformed, r.at, fmt.Sprintf(format, args...))
}

func (r *ubReader) take(n int) ([]byte, error) {
	if n < 0 || n > len(r.data)-r.at {
		return nil, r.fail("%d bytes wanted, %d left", n, len(r.data)-r.at)
	}
	b := r.data[r.at : r.at+n]
	r.at += n
	return b, nil
}

// marker returns the next type marker, skipping no-ops.
func (r *ubReader) marker() (byte, error) {
	for {
		b, err := r.take(1)
		if err != nil {
			return 0, err
		}
		if b[0] != 'N' {
			return b[0], nil
		}
	}
}

func (r *ubReader) peek() byte {
	if r.at < len(r.data) {
		return r.data[r.at]
	}
	return 0
}

// width returns the bytes that one number of a kind takes, 0 when it is no number.
func width(kind byte) int {
	switch kind {
	case 'i', 'U':
		return 1
	case 'I':
		return 2
	case 'l', 'd':
		return 4
	case 'L', 'D':
		return 8
	}
	return 0
}

// integer returns the first number of b and true when kind is an integer kind.
func integer(kind byte, b []byte) (int64, bool) {
	switch kind {
	case 'i':
		return int64(int8(b[0])), true
	case 'U':
		return int64(b[0]), true
	case 'I':
		return int64(int16(binary.BigEndian.Uint16(b))), true
	case 'l':
		return int64(int32(binary.BigEndian.Uint32(b))), true
	case 'L':
		return int64(binary.BigEndian.Uint64(b)), true
	}
	return 0, false
}

// float32At returns the first number of b as float32.
func float32At(kind byte, b []byte) float32 {
	switch kind {
	case 'd':
		return math.Float32frombits(binary.BigEndian.Uint32(b))
	case 'D':
		return float32(math.Float64frombits(binary.BigEndian.Uint64(b)))
	}
	n, _ := integer(kind, b)
	return float32(n)
}

// length reads a count: a marker of an integer kind and the number.
func (r *ubReader) length() (int, error) {
	kind, err := r.marker()
	if err != nil {
		return 0, err
	}
	w := width(kind)
	if w == 0 || kind == 'd' || kind == 'D' {
		return 0, r.fail("%q is no type of a length", kind)
	}
	b, err := r.take(w)
	if err != nil {
		return 0, err
	}
	n, _ := integer(kind, b)
	if n < 0 || n > int64(len(r.data)) {
		return 0, r.fail("length %d in %d bytes", n, len(r.data))
	}
	return int(n), nil
}

func (r *ubReader) text() (string, error) {
	n, err := r.length()
	if err != nil {
		return "", err
	}
	b, err := r.take(n)
	return string(b), err
}

// value reads one value: nil, bool, int64, float32, string, numbers, []any or map[string]any.
func (r *ubReader) value(kind byte, depth int) (any, error) {
	if depth > maxDepth {
		return nil, r.fail("nested deeper than %d", maxDepth)
	}
	switch kind {
	case 'Z':
		return nil, nil
	case 'T', 'F':
		return kind == 'T', nil
	case 'S', 'H':
		return r.text()
	case 'C':
		b, err := r.take(1)
		return string(b), err
	case '[':
		return r.array(depth)
	case '{':
		return r.object(depth)
	}
	return r.number(kind)
}

func (r *ubReader) number(kind byte) (any, error) {
	w := width(kind)
	if w == 0 {
		return nil, r.fail("unknown type %q", kind)
	}
	b, err := r.take(w)
	if err != nil {
		return nil, err
	}
	if n, ok := integer(kind, b); ok {
		return n, nil
	}
	return float32At(kind, b), nil
}

// header reads the optional "$type" and "#count" of a container. Without them kind is 0 and count is -1.
func (r *ubReader) header() (kind byte, count int, err error) {
	count = -1
	if r.peek() == '$' {
		r.at++
		if kind, err = r.marker(); err != nil {
			return 0, 0, err
		}
		if r.peek() != '#' {
			return 0, 0, r.fail("a type without a count")
		}
	}
	if r.peek() == '#' {
		r.at++
		count, err = r.length()
	}
	return kind, count, err
}

func (r *ubReader) array(depth int) (any, error) {
	kind, count, err := r.header()
	if err != nil {
		return nil, err
	}
	if w := width(kind); w > 0 {
		data, err := r.take(w * count)
		return numbers{kind, data}, err
	}
	if kind != 0 {
		return nil, r.fail("array of type %q", kind)
	}
	var list []any
	for count < 0 || len(list) < count {
		kind, err := r.marker()
		if err != nil {
			return nil, err
		}
		if kind == ']' && count < 0 {
			break
		}
		v, err := r.value(kind, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (r *ubReader) object(depth int) (any, error) {
	kind, count, err := r.header()
	if err != nil {
		return nil, err
	}
	if kind != 0 {
		return nil, r.fail("object of type %q", kind)
	}
	fields := map[string]any{}
	for n := 0; n != count; n++ {
		for r.peek() == 'N' {
			r.at++
		}
		if count < 0 && r.peek() == '}' {
			r.at++
			break
		}
		if err := r.field(fields, depth); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

func (r *ubReader) field(fields map[string]any, depth int) error {
	name, err := r.text()
	if err != nil {
		return err
	}
	kind, err := r.marker()
	if err != nil {
		return err
	}
	if _, twice := fields[name]; twice {
		return r.fail("key %.40q twice", name)
	}
	fields[name], err = r.value(kind, depth+1)
	return err
}
