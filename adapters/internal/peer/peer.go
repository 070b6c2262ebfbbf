// Package peer tells handlers that one adapter mounts for another where a request comes from.
package peer

import "context"

type key struct{}

// With notes the address of a request's sender, in the form that limits count by.
func With(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, key{}, address)
}

// Address is what With noted; "" if nothing did.
func Address(ctx context.Context) string {
	a, _ := ctx.Value(key{}).(string)
	return a
}
