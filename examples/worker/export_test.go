package worker

import "time"

// NewLimited makes an agent with other limits than New does.
func NewLimited(maxTasks int, maxStall time.Duration) *Agent {
	a := New()
	a.maxTasks, a.maxStall = maxTasks, maxStall
	return a
}
