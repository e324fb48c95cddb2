package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// certLifetime is long because nobody renews it: the certificate lives as long as the directory of a local run.
const certLifetime = 10 * 365 * 24 * time.Hour

// secrets are what a client needs to trust the server and to be trusted by it.
type secrets struct {
	certPEM, keyPEM []byte
	token           string
}

// loadSecrets reads the secrets of an earlier run in dir, or makes them.
func loadSecrets(dir string) (secrets, error) {
	if err := makeDir(dir); err != nil {
		return secrets{}, err
	}
	var s secrets
	var token []byte
	for name, into := range map[string]*[]byte{"tls.crt": &s.certPEM, "tls.key": &s.keyPEM, "token": &token} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return makeSecrets(dir)
		}
		if err != nil {
			return secrets{}, fmt.Errorf("reading secrets of the API: %w", err)
		}
		*into = data
	}
	s.token = strings.TrimSpace(string(token))
	return s, nil
}

func makeSecrets(dir string) (secrets, error) {
	certPEM, keyPEM, err := selfSigned(time.Now())
	if err != nil {
		return secrets{}, err
	}
	s := secrets{certPEM: certPEM, keyPEM: keyPEM, token: rand.Text()}
	for name, data := range map[string][]byte{"tls.crt": certPEM, "tls.key": keyPEM, "token": []byte(s.token)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return secrets{}, fmt.Errorf("writing secrets of the API: %w", err)
		}
	}
	return s, nil
}

// selfSigned makes a P-256 certificate for loopback that is its own authority. The API server library would make two
// RSA keys, which takes longer than the rest of the start.
func selfSigned(now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generating key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "siskin-local"},
		NotBefore:             now.Add(-time.Hour), // clocks step back
		NotAfter:              now.Add(certLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("signing certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}
