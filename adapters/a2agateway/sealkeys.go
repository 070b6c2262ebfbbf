package a2agateway

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// SealKeys works keys for app.Config.SealKeys out of the private ones of those that NewSigner takes, in their order. So one
// key is enough for a server: whoever has that of the cards can open what callers gave to be told of their tasks.
func SealKeys(keys []byte) ([][]byte, error) {
	var out [][]byte
	for {
		var block *pem.Block
		if block, keys = pem.Decode(keys); block == nil {
			break
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, err
		}
		if block.Type == "PUBLIC KEY" {
			continue
		}
		der, err := x509.MarshalPKCS8PrivateKey(key) // the same however it was written
		if err != nil {
			return nil, err
		}
		seal, err := hkdf.Key(sha256.New, der, nil, "nexus: seal of secrets", 32)
		if err != nil {
			return nil, err
		}
		out = append(out, seal)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no private key in PEM")
	}
	return out, nil
}
