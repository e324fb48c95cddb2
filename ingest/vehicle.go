package ingest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// vinLength is fixed by ISO 3779.
const vinLength = 17

// ErrVIN says that a string is no vehicle identification number. The message does not repeat it: a VIN is personal data.
var ErrVIN = errors.New("vin: expected 17 characters A-Z and 0-9 without I, O and Q")

// CheckVIN returns ErrVIN unless the string is a VIN in capital letters. The check digit is not verified, since only
// North America demands it.
func CheckVIN(vin string) error {
	if len(vin) != vinLength {
		return ErrVIN
	}
	for _, c := range []byte(vin) {
		capital := 'A' <= c && c <= 'Z' && !strings.ContainsRune("IOQ", rune(c))
		if !capital && (c < '0' || c > '9') {
			return ErrVIN
		}
	}
	return nil
}

// minKeyBytes keeps the pseudonyms from being undone by trying all VINs with guessed keys: 128 bits.
const minKeyBytes = 16

// Pseudonymiser turns VINs into names that only the holder of the key can connect with a vehicle.
type Pseudonymiser struct{ key []byte }

// NewPseudonymiser takes the secret key, at least 16 bytes. Another key gives each vehicle another name, and with it
// another bucket: change it only when no rollout runs.
func NewPseudonymiser(key []byte) (*Pseudonymiser, error) {
	if len(key) < minKeyBytes {
		return nil, errors.New("reading the pseudonym key: expected at least 16 bytes")
	}
	return &Pseudonymiser{key: append([]byte(nil), key...)}, nil
}

// Pseudonym is the first half of HMAC-SHA256(key, vin) in hexadecimal: 32 characters, 128 bits.
func (p *Pseudonymiser) Pseudonym(vin string) string {
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte(vin))
	return hex.EncodeToString(mac.Sum(nil)[:sha256.Size/2])
}
