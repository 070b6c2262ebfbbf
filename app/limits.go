package app

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

// The limits that a caller sees in the RateLimit headers.
var (
	LimitTasks          = ports.RateRule{Name: "tasks", Limit: 30, Per: time.Minute}
	LimitRuns           = ports.RateRule{Name: "runs", Limit: 30, Per: time.Minute}
	LimitCheckout       = ports.RateRule{Name: "checkout", Limit: 10, Per: time.Minute}
	LimitDashboardTasks = ports.RateRule{Name: "dashboard-tasks", Limit: 20, Per: time.Minute}
)

// The limits at the doors that anyone may knock at.
var (
	limitSignUp = ports.RateRule{Name: "signup", Limit: 60, Per: time.Minute}
	// Of one address at one account: who guesses keeps himself out and nobody else.
	limitLogIn        = ports.RateRule{Name: "login", Limit: 10, Per: time.Minute}
	limitLogInAddress = ports.RateRule{Name: "login-address", Limit: 60, Per: time.Minute}
	// Of all addresses together at one account, but for those at which it has a session.
	limitLogInAccount = ports.RateRule{Name: "login-account", Limit: 100, Per: time.Hour}
	limitMailAddress  = ports.RateRule{Name: "mail-address", Limit: 20, Per: time.Hour}
	limitMail         = ports.RateRule{Name: "mail", Limit: 5, Per: time.Hour} // to one address, or asked for by one user
	limitToken        = ports.RateRule{Name: "token", Limit: 30, Per: time.Minute}
	limitPassword     = ports.RateRule{Name: "password", Limit: 10, Per: time.Minute} // of a user who is logged in
)

// limitInspect bounds how often a caller may have the engine look at endpoints that it keeps nothing of.
var limitInspect = ports.RateRule{Name: "inspect", Limit: 20, Per: time.Minute}

// Limits counts requests.
type Limits struct{ *core }

// Take counts one request of the caller. The result is for the response's headers, and is there with the error too,
// which is RATE_LIMIT_EXCEEDED when nothing is left.
func (s *Limits) Take(ctx context.Context, c identity.Caller, rule ports.RateRule) (ports.RateResult, error) {
	return s.take(ctx, rule, c.UserID)
}

func (c *core) limit(ctx context.Context, rule ports.RateRule, who string) error {
	if who == "" {
		return nil
	}
	_, err := c.take(ctx, rule, who)
	return err
}

func (c *core) take(ctx context.Context, rule ports.RateRule, who string) (ports.RateResult, error) {
	r, err := c.Config.Limits.Allow(ctx, rule.Name+":"+who, rule)
	if err != nil {
		return r, fmt.Errorf("count requests: %w", err)
	}
	if !r.Allowed {
		wait := max(int(math.Ceil(r.RetryAfter.Seconds())), 1)
		return r, fault.New(fault.RateLimited, fault.CodeRateLimitExceeded,
			"more than %d requests in %s; try again in %d s", rule.Limit, rule.Per, wait).With("retryAfter", wait)
	}
	return r, nil
}
