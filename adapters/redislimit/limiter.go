// Package redislimit counts requests in Redis, for all processes together.
package redislimit

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.RateLimiter = (*Limiter)(nil)

// patience is how long a request waits for Redis.
const patience = 500 * time.Millisecond

// Options are the limiter's settings.
type Options struct {
	// Closed refuses everything with UNAVAILABLE while Redis is away. Otherwise everything is allowed then.
	Closed bool
	Logger *slog.Logger // default: discards
}

// Limiter is a ports.RateLimiter: the generic cell rate algorithm as one script, so that it is atomic. One round trip.
type Limiter struct {
	limiter *redis_rate.Limiter
	opt     Options
	away    atomic.Bool
}

// New makes a limiter. Redis need not be there yet.
func New(client redis.UniversalClient, opt Options) *Limiter {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	return &Limiter{limiter: redis_rate.NewLimiter(client), opt: opt}
}

// Allow implements ports.RateLimiter.
func (l *Limiter) Allow(ctx context.Context, key string, rule ports.RateRule) (ports.RateResult, error) {
	if rule.Limit <= 0 || rule.Per <= 0 {
		return ports.RateResult{}, errors.New("a rate rule needs a limit and a time")
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := l.limiter.Allow(bounded, "nexus:limit:"+key, redis_rate.Limit{Rate: rule.Limit, Burst: rule.Limit, Period: rule.Per})
	if err != nil {
		if ctx.Err() != nil {
			return ports.RateResult{}, ctx.Err()
		}
		return l.without(ctx, rule, err)
	}
	if l.away.Swap(false) {
		l.opt.Logger.InfoContext(ctx, "Redis is back: requests are counted again")
	}
	return ports.RateResult{
		Allowed: r.Allowed > 0, Limit: rule.Limit, Remaining: r.Remaining, RetryAfter: max(r.RetryAfter, 0), Reset: r.ResetAfter,
	}, nil
}

// without decides while Redis is away.
func (l *Limiter) without(ctx context.Context, rule ports.RateRule, err error) (ports.RateResult, error) {
	if !l.away.Swap(true) {
		l.opt.Logger.WarnContext(ctx, "Redis is away: requests are not counted", "refused", l.opt.Closed, "error", err)
	}
	if l.opt.Closed {
		return ports.RateResult{Limit: rule.Limit}, fault.New(fault.Unavailable, fault.CodeUnavailable, "requests cannot be counted now; try again in a moment")
	}
	return ports.RateResult{Allowed: true, Limit: rule.Limit, Remaining: rule.Limit}, nil
}
