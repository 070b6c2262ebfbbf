//go:build unix

package sqlite_test

import (
	"syscall"
	"time"
)

// cpu is what the process has used so far; unlike the clock it does not see what else the machine does.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
