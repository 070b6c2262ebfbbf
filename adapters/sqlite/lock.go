package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrLocked is returned by LockProcess while another process holds the lock.
var ErrLocked = errors.New("in use by another process")

// lockPoll is how often a lock that is taken is tried again.
const lockPoll = 10 * time.Millisecond

// LockProcess makes this process the only server on the database, until release is called or the process ends, however
// it ends. It is ErrLocked while another one is.
func LockProcess(path string) (release func(), err error) {
	f, err := tryLock(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil // closing gives the lock up
}

// lockWait waits until the file's lock is free.
func lockWait(ctx context.Context, file string) (release func(), err error) {
	for {
		f, err := tryLock(file)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, ErrLocked) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// tryLock takes the lock of a file, which it makes if it is not there. It is ErrLocked when it is taken.
func tryLock(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := exclusive(f); err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}
