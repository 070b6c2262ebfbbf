package memory

import (
	"context"
	"slices"

	"github.com/nexus-protocol/nexus/ports"
)

type secrets struct{ view }

var _ ports.SecretStore = secrets{}

func (v secrets) Get(ctx context.Context, name string) ([]byte, bool, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	secret, ok := v.s.secrets.get(name)
	return slices.Clone(secret), ok, nil
}

func (v secrets) Keep(_ context.Context, name string, secret []byte) error {
	if _, kept := v.s.secrets.get(name); !kept {
		v.s.secrets.put(v.tx, name, slices.Clone(secret))
	}
	return nil
}
