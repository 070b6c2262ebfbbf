package a2agateway

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

// Signer signs agent cards: JWS over the card's canonical form (RFC 7515, RFC 8785), with ES256 or EdDSA by the kind of its
// key. It is safe for concurrent use. The same card has the same signature each time.
type Signer struct {
	alg, kid string
	sign     func(input []byte) ([]byte, error)
	keys     []jwk // to be published; the first is the signer's own
}

// jwk is a public key as RFC 7517 writes it.
type jwk struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Y   string `json:"y,omitempty"`
	Kid string `json:"kid"`
	Alg string `json:"alg"`
	Use string `json:"use"`
}

var errKind = errors.New("a card's key must be on the curve P-256, or Ed25519")

// NewCardKey makes a key in the form that NewSigner takes.
func NewCardKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// NewSigner makes a signer of keys in PEM: the first is private (PKCS #8 or SEC 1) and signs; further ones, private or public,
// are only published with it. So a key is changed without a gap: the new one goes before the old one, which stays until no
// card that it signed is about.
func NewSigner(keys []byte) (*Signer, error) {
	s := &Signer{}
	for {
		var block *pem.Block
		if block, keys = pem.Decode(keys); block == nil {
			break
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, err
		}
		var public crypto.PublicKey = key
		if private, ok := key.(crypto.Signer); ok {
			public = private.Public()
		}
		k, err := jwkOf(public)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, k)
		if len(s.keys) == 1 {
			if err := s.use(key, k); err != nil {
				return nil, err
			}
		}
	}
	if len(s.keys) == 0 {
		return nil, errors.New("there is no key in PEM")
	}
	return s, nil
}

func parseKey(block *pem.Block) (any, error) {
	switch block.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	}
	return nil, fmt.Errorf("a %s is no key that can be used here", block.Type)
}

func (s *Signer) use(key any, k jwk) error {
	s.alg, s.kid = k.Alg, k.Kid
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		s.sign = func(input []byte) ([]byte, error) {
			sum := sha256.Sum256(input)
			der, err := key.Sign(nil, sum[:], crypto.SHA256) // without a source of randomness it is that of RFC 6979
			if err != nil {
				return nil, err
			}
			var v struct{ R, S *big.Int }
			if _, err := asn1.Unmarshal(der, &v); err != nil {
				return nil, err
			}
			out := make([]byte, 64)
			v.R.FillBytes(out[:32])
			v.S.FillBytes(out[32:])
			return out, nil
		}
	case ed25519.PrivateKey:
		s.sign = func(input []byte) ([]byte, error) { return ed25519.Sign(key, input), nil }
	default:
		return errors.New("the first key must be a private one")
	}
	return nil
}

// jwkOf describes a public key; its name is its thumbprint (RFC 7638).
func jwkOf(key crypto.PublicKey) (jwk, error) {
	var k jwk
	var named any
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil || key.Curve != elliptic.P256() {
			return k, errKind
		}
		k = jwk{Kty: "EC", Crv: "P-256", X: base64url(point[1:33]), Y: base64url(point[33:]), Alg: "ES256"}
		named = struct {
			Crv string `json:"crv"`
			Kty string `json:"kty"`
			X   string `json:"x"`
			Y   string `json:"y"`
		}{k.Crv, k.Kty, k.X, k.Y}
	case ed25519.PublicKey:
		k = jwk{Kty: "OKP", Crv: "Ed25519", X: base64url(key), Alg: "EdDSA"}
		named = struct {
			Crv string `json:"crv"`
			Kty string `json:"kty"`
			X   string `json:"x"`
		}{k.Crv, k.Kty, k.X}
	default:
		return k, errKind
	}
	text, err := json.Marshal(named)
	if err != nil {
		return k, err
	}
	sum := sha256.Sum256(text)
	k.Kid, k.Use = base64url(sum[:]), "sig"
	return k, nil
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// signature signs one form of a card; the published keys are at jku.
func (s *Signer) signature(card object, jku string) (object, error) {
	payload, err := canonical(card)
	if err != nil {
		return nil, err
	}
	header, err := canonical(object{"alg": s.alg, "kid": s.kid, "typ": "JOSE", "jku": jku})
	if err != nil {
		return nil, err
	}
	protected := base64url(header)
	raw, err := s.sign([]byte(protected + "." + base64url(payload)))
	if err != nil {
		return nil, fmt.Errorf("sign a card: %w", err)
	}
	return object{"protected": protected, "signature": base64url(raw)}, nil
}
