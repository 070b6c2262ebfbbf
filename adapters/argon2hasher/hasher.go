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

// atOnce bounds how many passwords are worked on by default, so that a flood of log-ins takes neither all cores nor all
// memory.
const atOnce = 2

// dummy is of the same params. It is compared with when there is no user, so that it takes as long.
const dummy = "$argon2id$v=19$m=19456,t=2,p=1$t2sUWbyPn25vaGKVWuAx4w$jWG/zLFcTHTzOx/PZNVS0YeYljdhSMWa/Yzcq0C5gIU"

// Hasher is a ports.PasswordHasher.
type Hasher struct{ slots chan struct{} }

// New makes a hasher that works on two passwords at once.
func New() *Hasher { return NewAtOnce(atOnce) }

// NewAtOnce makes a hasher that works on n passwords at once, at least one. Each takes 19 MiB and a core meanwhile.
func NewAtOnce(n int) *Hasher { return &Hasher{slots: make(chan struct{}, max(n, 1))} }

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

// Hash implements ports.PasswordHasher. Waiting for its turn ends with ctx.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	return argon2id.CreateHash(password, params)
}

// Verify implements ports.PasswordHasher. Waiting for its turn ends with ctx.
func (h *Hasher) Verify(ctx context.Context, password, hash string) (bool, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	known := hash != ""
	if !known {
		hash = dummy
	}
	ok, err := argon2id.ComparePasswordAndHash(password, hash)
	if err != nil {
		return false, fmt.Errorf("stored hash: %w", err)
	}
	return ok && known, nil
}
