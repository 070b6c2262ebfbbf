package ports

import "context"

// SecretReader reads keys that all processes on the store share and that nobody else is to know.
type SecretReader interface {
	// Get returns a secret; ok is false if there is none of that name.
	Get(ctx context.Context, name string) (secret []byte, ok bool, err error)
}

// SecretStore keeps them.
type SecretStore interface {
	SecretReader
	// Keep keeps a secret, unless there is one of that name already: the first one stays.
	Keep(ctx context.Context, name string, secret []byte) error
}
