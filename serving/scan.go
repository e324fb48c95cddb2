package serving

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// maxNesting bounds how deep a request's JSON may nest, so that skipping it needs little stack.
const maxNesting = 100

// scanner reads JSON from memory, once, from front to back. It accepts exactly what RFC 8259 accepts, up to maxNesting.
type scanner struct {
	data []byte
	at   int
}

func (s *scanner) fail(format string, args ...any) error {
	return &statusError{http.StatusBadRequest, fmt.Sprintf("reading JSON at byte %d: %s", s.at, fmt.Sprintf(format, args...))}
}

// next skips white space and returns the byte there, or 0 at the end.
func (s *scanner) next() byte {
	for s.at < len(s.data) {
		switch c := s.data[s.at]; c {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// expect takes c or fails.
func (s *scanner) expect(c byte) error {
	if got := s.next(); got != c || s.at == len(s.data) {
		return s.unexpected(fmt.Sprintf("%q", c))
	}
	s.at++
	return nil
}

// unexpected says what stands at the current place instead of what was wanted.
func (s *scanner) unexpected(want string) error {
	if s.at >= len(s.data) {
		return s.fail("unexpected end, want %s", want)
	}
	return s.fail("unexpected %q, want %s", s.data[s.at], want)
}

// null takes the literal null when it is there.
func (s *scanner) null() bool {
	if s.next() != 'n' || !s.literal("null") {
		return false
	}
	return true
}

func (s *scanner) literal(word string) bool {
	if len(s.data)-s.at < len(word) || string(s.data[s.at:s.at+len(word)]) != word {
		return false
	}
	s.at += len(word)
	return true
}

// list takes an array and calls each at the start of every element.
func (s *scanner) list(each func() error) error {
	if err := s.expect('['); err != nil {
		return err
	}
	if s.next() == ']' {
		s.at++
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		if s.next() != ',' {
			return s.expect(']')
		}
		s.at++
	}
}

// object takes an object and calls each with every key, at the start of its value.
func (s *scanner) object(each func(key string) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	if s.next() == '}' {
		s.at++
		return nil
	}
	for {
		key, err := s.text()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := each(key); err != nil {
			return err
		}
		if s.next() != ',' {
			return s.expect('}')
		}
		s.at++
	}
}

// rawText takes a string and returns it with its quotes and escapes.
func (s *scanner) rawText() ([]byte, error) {
	if s.next() != '"' {
		return nil, s.unexpected("a string")
	}
	start := s.at
	for s.at++; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; {
		case c == '"':
			s.at++
			return s.data[start:s.at], nil
		case c < ' ':
			return nil, s.fail("control character %q in a string", c)
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		}
	}
	return nil, s.fail("unexpected end in a string")
}

// escape checks an escape and stops on its last byte.
func (s *scanner) escape() error {
	s.at++
	if s.at >= len(s.data) {
		return s.fail("unexpected end in a string")
	}
	switch s.data[s.at] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
		for range 4 {
			s.at++
			if s.at >= len(s.data) || !isHex(s.data[s.at]) {
				return s.fail("want four hexadecimal digits after \\u")
			}
		}
		return nil
	}
	return s.fail("unknown escape %q", s.data[s.at])
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// text takes a string and returns its value.
func (s *scanner) text() (string, error) {
	raw, err := s.rawText()
	if err != nil {
		return "", err
	}
	inner := raw[1 : len(raw)-1]
	for _, c := range inner {
		if c == '\\' {
			var v string
			if err := json.Unmarshal(raw, &v); err != nil {
				return "", s.fail("%v", err)
			}
			return v, nil
		}
	}
	return intern(inner), nil
}

// intern returns b as a string, without allocating for the words that every request has.
func intern(b []byte) string {
	switch string(b) {
	case "id":
		return "id"
	case "inputs":
		return "inputs"
	case "outputs":
		return "outputs"
	case "parameters":
		return "parameters"
	case "name":
		return "name"
	case "shape":
		return "shape"
	case "datatype":
		return "datatype"
	case "data":
		return "data"
	case inputName:
		return inputName
	case outputName:
		return outputName
	case FP32:
		return FP32
	case FP64:
		return FP64
	}
	return string(b)
}

// number takes a number and returns its text.
func (s *scanner) number() ([]byte, error) {
	s.next()
	start := s.at
	s.take('-')
	if !s.take('0') && !s.digits() {
		s.at = start
		return nil, s.unexpected("a number")
	}
	if s.take('.') && !s.digits() {
		return nil, s.unexpected("a digit")
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		if !s.digits() {
			return nil, s.unexpected("a digit")
		}
	}
	return s.data[start:s.at], nil
}

func (s *scanner) take(c byte) bool {
	if s.at < len(s.data) && s.data[s.at] == c {
		s.at++
		return true
	}
	return false
}

// digits takes digits and tells whether there was one.
func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.data) && '0' <= s.data[s.at] && s.data[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

// skip takes any value; depth is how many containers are open around it.
func (s *scanner) skip(depth int) error {
	if depth >= maxNesting {
		return s.fail("nested deeper than %d", maxNesting)
	}
	switch c := s.next(); c {
	case '{':
		return s.object(func(string) error { return s.skip(depth + 1) })
	case '[':
		return s.list(func() error { return s.skip(depth + 1) })
	case '"':
		_, err := s.rawText()
		return err
	case 't', 'f', 'n':
		if s.literal("true") || s.literal("false") || s.literal("null") {
			return nil
		}
		return s.unexpected("a value")
	}
	_, err := s.number()
	return err
}

// end fails unless only white space is left.
func (s *scanner) end() error {
	if s.next(); s.at < len(s.data) {
		return s.unexpected("the end")
	}
	return nil
}
