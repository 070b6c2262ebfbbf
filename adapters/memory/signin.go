package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

type identities struct{ view }

func subjectKey(issuer, subject string) string { return issuer + "\x00" + subject }

func identityNotFound(id string) error {
	return fault.NotFoundf(fault.CodeNotFound, "Identity", id)
}

func (v identities) Find(ctx context.Context, issuer, subject string) (identity.Identity, identity.User, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return identity.Identity{}, identity.User{}, err
	}
	defer unlock()
	id, ok := v.s.subjects.get(subjectKey(issuer, subject))
	if !ok {
		return identity.Identity{}, identity.User{}, identityNotFound(subject)
	}
	i := v.s.identities.rows[id]
	return i, cloneUser(v.s.users.rows[i.UserID]), nil
}

func (v identities) ListByUser(ctx context.Context, userID string) ([]identity.Identity, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []identity.Identity
	for _, i := range v.s.identities.rows {
		if i.UserID == userID {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b identity.Identity) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return out, nil
}

func (v identities) Insert(_ context.Context, i identity.Identity) error {
	key := subjectKey(i.Issuer, i.Subject)
	if _, taken := v.s.subjects.get(key); taken {
		return ports.ErrDuplicate
	}
	v.s.identities.put(v.tx, i.ID, i)
	v.s.subjects.put(v.tx, key, i.ID)
	return nil
}

func (v identities) Delete(_ context.Context, userID, id string) error {
	i, ok := v.s.identities.get(id)
	if !ok || i.UserID != userID {
		return identityNotFound(id)
	}
	v.s.identities.del(v.tx, id)
	v.s.subjects.del(v.tx, subjectKey(i.Issuer, i.Subject))
	return nil
}

func (v identities) DeleteByUser(_ context.Context, userID string) error {
	for id, i := range v.s.identities.rows {
		if i.UserID == userID {
			v.s.identities.del(v.tx, id)
			v.s.subjects.del(v.tx, subjectKey(i.Issuer, i.Subject))
		}
	}
	return nil
}

type tokens struct{ view }

func (v tokens) Get(ctx context.Context, hash string) (identity.Token, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return identity.Token{}, err
	}
	defer unlock()
	t, ok := v.s.tokens.get(hash)
	if !ok {
		return t, fault.New(fault.NotFound, fault.CodeNotFound, "Token not found")
	}
	return t, nil
}

func (v tokens) Insert(_ context.Context, t identity.Token) error {
	if _, taken := v.s.tokens.get(t.Hash); taken {
		return ports.ErrDuplicate
	}
	v.s.tokens.put(v.tx, t.Hash, t)
	return nil
}

func (v tokens) Take(ctx context.Context, hash string) (identity.Token, error) {
	t, err := v.Get(ctx, hash)
	if err == nil {
		v.s.tokens.del(v.tx, hash)
	}
	return t, err
}

func (v tokens) DeleteByUser(_ context.Context, userID string, purposes ...identity.Purpose) error {
	for hash, t := range v.s.tokens.rows {
		if t.UserID == userID && (len(purposes) == 0 || slices.Contains(purposes, t.Purpose)) {
			v.s.tokens.del(v.tx, hash)
		}
	}
	return nil
}

func (v tokens) DeleteExpired(_ context.Context, now time.Time) error {
	for hash, t := range v.s.tokens.rows {
		if !t.Live(now) {
			v.s.tokens.del(v.tx, hash)
		}
	}
	return nil
}

type letters struct{ view }

func (v letters) Get(ctx context.Context, id string) (identity.Letter, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return identity.Letter{}, err
	}
	defer unlock()
	l, ok := v.s.letters.get(id)
	if !ok {
		return l, fault.NotFoundf(fault.CodeNotFound, "Letter", id)
	}
	return l, nil
}

func (v letters) Insert(_ context.Context, l identity.Letter) error {
	if _, taken := v.s.letters.get(l.ID); taken {
		return ports.ErrDuplicate
	}
	v.s.letters.put(v.tx, l.ID, l)
	return nil
}

func (v letters) Delete(_ context.Context, id string) error {
	v.s.letters.del(v.tx, id)
	return nil
}
