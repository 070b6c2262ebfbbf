// Package argon2hasher hashes passwords with argon2id.
package argon2hasher

import (
	"context"
	"fmt"

	"github.com/alexedwards/argon2id"

	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.PasswordHasher = (*Hasher)(nil)

// params are OWASP's: 19 MiB, two passes, one lane. A hash takes some tens of milliseconds of one core.
var params = &argon2id.Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// atOnce bounds how many passwords are worked on, so that a flood of log-ins takes neither all cores nor all memory.
const atOnce = 2

// Hasher is a ports.PasswordHasher.
type Hasher struct {
	slots chan struct{}
	dummy string // compared with when there is no user, so that it takes as long
}

// New makes a hasher.
func New() *Hasher {
	dummy, err := argon2id.CreateHash("nobody", params)
	if err != nil {
		panic(err) // only without a source of randomness
	}
	return &Hasher{slots: make(chan struct{}, atOnce), dummy: dummy}
}

func (h *Hasher) enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Hash implements ports.PasswordHasher.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	return argon2id.CreateHash(password, params)
}

// Verify implements ports.PasswordHasher.
func (h *Hasher) Verify(ctx context.Context, password, hash string) (bool, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	known := hash != ""
	if !known {
		hash = h.dummy
	}
	ok, err := argon2id.ComparePasswordAndHash(password, hash)
	if err != nil {
		return false, fmt.Errorf("stored hash: %w", err)
	}
	return ok && known, nil
}
