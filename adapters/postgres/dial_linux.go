package postgres

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unanswered is how long a server may leave what was sent to it unacknowledged. Without a limit a network that swallows
// packets holds a writer, and the rows that it has locked, for a quarter of an hour.
const unanswered = 20 * time.Second

// giveUpUnanswered sets the limit on a connection.
func giveUpUnanswered(network, _ string, c syscall.RawConn) (err error) {
	if network == "unix" {
		return nil
	}
	failed := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unanswered.Milliseconds()))
	})
	if err == nil {
		err = failed
	}
	return err
}
