// Package retryafter reads HTTP's Retry-After header.
package retryafter

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// Wait is how long a Retry-After header, in seconds or as a date, asks to be left alone: no longer than most, and 0 if it
// does not say, or says what has gone by.
func Wait(header string, most time.Duration) time.Duration {
	var d time.Duration
	switch n, err := strconv.Atoi(header); {
	case err == nil || errors.Is(err, strconv.ErrRange): // then n is as far as it goes
		d = time.Duration(min(n, int(most.Seconds()))) * time.Second
	default:
		if at, err := http.ParseTime(header); err == nil {
			d = time.Until(at)
		}
	}
	return min(max(d, 0), most)
}
