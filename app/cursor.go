package app

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

// A cursor is a place in a list, as text that only this engine can make: a tag, and what it is the tag of, which is when
// the cursor was made and the place. The tag also covers the list and the question, so that a cursor of another list or
// question is none.
const (
	cursorSecret = "cursor" // its name in the store, so that all processes have the same
	cursorLasts  = 24 * time.Hour
	cursorTag    = 16  // bytes of the HMAC that are kept
	maxCursor    = 512 // characters
)

// cursors remembers the key of this engine's cursors once it is known.
type cursors struct{ key atomic.Pointer[[]byte] }

// cursorKey is the key that all processes on the store seal their cursors with. It is made where it is first needed: one
// read, one commit and another read then; nothing later.
func (c *core) cursorKey(ctx context.Context) ([]byte, error) {
	if known := c.cursors.key.Load(); known != nil {
		return *known, nil
	}
	key, ok, err := c.Store.Read().Secrets.Get(ctx, cursorSecret)
	if err == nil && !ok {
		fresh := make([]byte, sha256.Size)
		if _, err := io.ReadFull(c.Random, fresh); err != nil {
			return nil, fmt.Errorf("draw a key: %w", err)
		}
		err = c.Store.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Secrets.Keep(ctx, cursorSecret, fresh) })
		if err == nil { // another process may have been first
			key, ok, err = c.Store.Read().Secrets.Get(ctx, cursorSecret)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the key of cursors: %w", err)
	}
	if !ok || len(key) < sha256.Size {
		return nil, fmt.Errorf("the key of cursors is not kept")
	}
	c.cursors.key.Store(&key)
	return key, nil
}

// sealed is what a cursor says.
type sealed[P any] struct {
	Made  int64 `json:"m"` // seconds since 1970
	Place P     `json:"p"`
}

func cursorMAC(key []byte, list string, question any, payload []byte) ([]byte, error) {
	asked, err := json.Marshal([]any{list, question})
	if err != nil {
		return nil, fmt.Errorf("encode the question: %w", err)
	}
	h := hmac.New(sha256.New, key)
	sum := sha256.Sum256(asked)
	h.Write(sum[:])
	h.Write(payload)
	return h.Sum(nil)[:cursorTag], nil
}

// sealCursor makes the cursor of a place in a list's answer to a question.
func sealCursor[P any](ctx context.Context, c *core, list string, question any, place P) (string, error) {
	key, err := c.cursorKey(ctx)
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(sealed[P]{c.now().Unix(), place})
	if err != nil {
		return "", fmt.Errorf("encode cursor: %w", err)
	}
	tag, err := cursorMAC(key, list, question, payload)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(tag, payload...)), nil
}

// openCursor returns the place of a cursor that this engine made for the same list and question not long ago.
func openCursor[P any](ctx context.Context, c *core, list string, question any, text string) (place P, err error) {
	if len(text) > maxCursor {
		return place, staleCursor()
	}
	all, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(all) < cursorTag {
		return place, staleCursor()
	}
	key, err := c.cursorKey(ctx)
	if err != nil {
		return place, err
	}
	tag, payload := all[:cursorTag], all[cursorTag:]
	want, err := cursorMAC(key, list, question, payload)
	if err != nil {
		return place, err
	}
	var s sealed[P]
	if !hmac.Equal(tag, want) || json.Unmarshal(payload, &s) != nil {
		return place, staleCursor()
	}
	if made := time.Unix(s.Made, 0); c.now().Sub(made) > cursorLasts {
		return place, staleCursor()
	}
	return s.Place, nil
}

// staleCursor is the fault of a cursor that is not one of this list and question, or not any more.
func staleCursor() error {
	var bad fault.Fields
	bad.Add("cursor", "is none of this list and question, or older than %d hours; begin again without it", int(cursorLasts.Hours()))
	return bad.Err()
}

// cursorAlone is the fault of a cursor beside an offset.
func cursorAlone(cursor string, offset int) error {
	var bad fault.Fields
	bad.Check(cursor == "" || offset == 0, "offset", "must not be given beside a cursor")
	return bad.Err()
}

// upTo cuts off what was read beyond a limit, and tells whether there was any.
func upTo[T any](items []T, limit int) ([]T, bool) {
	if len(items) <= limit {
		return items, false
	}
	return items[:limit], true
}
