package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/crc32"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// An API key is "nxk_", 32 random base62 characters (190 bits), and a 6 character base62 checksum of what stands
// before it: CRC-32, the way GitHub's tokens do it, so that a typo or a fake is refused without a look-up.
const (
	keyMark     = "nxk_"
	keyRandom   = 32
	keyChecksum = 6
	keyLength   = len(keyMark) + keyRandom + keyChecksum
	keyPrefix   = 10 // characters that may be shown
	base62      = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// KeyEntropy is how many random bytes NewSecret needs.
const KeyEntropy = 2 * keyRandom

// Secret is the full text of an API key, known to be well formed.
type Secret string

// NewSecret makes a key of at least KeyEntropy random bytes. Bytes that would make some characters likelier than
// others are passed over, so it may ask for more: ok is false then.
func NewSecret(random []byte) (s Secret, ok bool) {
	b := make([]byte, 0, keyLength)
	b = append(b, keyMark...)
	for _, r := range random {
		if len(b) == len(keyMark)+keyRandom {
			break
		}
		if r < 248 { // 4 × 62: every character equally likely
			b = append(b, base62[r%62])
		}
	}
	if len(b) < len(keyMark)+keyRandom {
		return "", false
	}
	return Secret(append(b, checksum(b)...)), true
}

// ParseSecret accepts the text of a key if its form and checksum are right. It says nothing about the key being known.
func ParseSecret(s string) (Secret, bool) {
	if len(s) != keyLength || !strings.HasPrefix(s, keyMark) {
		return "", false
	}
	for i := len(keyMark); i < len(s); i++ {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return "", false
		}
	}
	body := s[:keyLength-keyChecksum]
	return Secret(s), s[len(body):] == string(checksum([]byte(body)))
}

func checksum(b []byte) []byte {
	sum := crc32.ChecksumIEEE(b)
	out := make([]byte, keyChecksum)
	for i := keyChecksum - 1; i >= 0; i-- {
		out[i] = base62[sum%62]
		sum /= 62
	}
	return out
}

// Hash is what is stored and looked up. A fast hash is right here: the key has more entropy than can be searched.
func (s Secret) Hash() string { return HashToken(string(s)) }

// Prefix is the part that may be shown.
func (s Secret) Prefix() string { return string(s[:keyPrefix]) }

// HashToken hashes a random token (never a password) for storage: SHA-256, in hex.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// APIKey is a key as it is stored. It acts for UserID, and AgentID is the requester of what it creates.
type APIKey struct {
	ID         string
	AgentID    string
	UserID     string
	Name       string
	Prefix     string
	Hash       string
	Scopes     Scopes
	CreatedAt  time.Time
	ExpiresAt  *time.Time // nil: never
	LastUsedAt *time.Time
	RevokedAt  *time.Time
}

// Live reports whether the key still holds.
func (k APIKey) Live(now time.Time) bool {
	return k.RevokedAt == nil && (k.ExpiresAt == nil || now.Before(*k.ExpiresAt))
}

// NewKey is what a caller asks for.
type NewKey struct {
	Name          string
	Scopes        []string
	ExpiresInDays *int // 1–365; nil: never
}

// MaxKeyDays is the longest life of a key that has an end.
const MaxKeyDays = 365

// Make validates the request and makes the key. The caller may grant only scopes that it has itself.
func (n NewKey) Make(c Caller, secret Secret, id, agentID, ownerUserID string, now time.Time) (APIKey, error) {
	var bad fault.Fields
	name := strings.TrimSpace(n.Name)
	bad.Check(name != "" && utf8.RuneCountInString(name) <= 100, "name", "must be 1 to 100 characters long")
	scopes := parseScopes(n.Scopes, &bad)
	var expires *time.Time
	if d := n.ExpiresInDays; d != nil {
		bad.Check(*d >= 1 && *d <= MaxKeyDays, "expiresInDays", "must be 1 to %d, or absent for a key that never expires", MaxKeyDays)
		t := now.AddDate(0, 0, *d)
		expires = &t
	}
	if err := bad.Err(); err != nil {
		return APIKey{}, err
	}
	for _, s := range scopes {
		if !c.Scopes.Allow(s) {
			return APIKey{}, missingScope(s)
		}
	}
	return APIKey{
		ID: id, AgentID: agentID, UserID: ownerUserID, Name: name, Prefix: secret.Prefix(), Hash: secret.Hash(),
		Scopes: scopes, CreatedAt: now, ExpiresAt: expires,
	}, nil
}
