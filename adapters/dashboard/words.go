package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/trust"
)

type balance ledger.Balance

// lowBalance is what a person is told to look at.
const lowBalance = 100 * credits.Credit

type nowKey struct{}

func withNow(ctx context.Context, now time.Time) context.Context {
	return context.WithValue(ctx, nowKey{}, now)
}

// now is the moment of the request; all times of a page are told from there.
func now(ctx context.Context) time.Time { return ctx.Value(nowKey{}).(time.Time) }

// ago is a time in words.
func ago(t, now time.Time) string {
	d := now.Sub(t)
	future := d < 0
	d = max(d, -d)
	var n int
	var unit string
	switch {
	case d < 10*time.Second:
		return "just now"
	case d < time.Minute:
		n, unit = int(d.Seconds()), "second"
	case d < time.Hour:
		n, unit = int(d.Minutes()), "minute"
	case d < 24*time.Hour:
		n, unit = int(d.Hours()), "hour"
	case d < 30*24*time.Hour:
		n, unit = int(d.Hours()/24), "day"
	case d < 360*24*time.Hour:
		n, unit = int(d.Hours()/24/30), "month"
	default:
		n, unit = max(int(d.Hours()/24/360), 1), "year"
	}
	if n != 1 {
		unit += "s"
	}
	if future {
		return fmt.Sprintf("in %d %s", n, unit)
	}
	return fmt.Sprintf("%d %s ago", n, unit)
}

func exact(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05 UTC") }

// span is a length of time in words.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
}

// soFar is how long something has gone on that still does. Script goes on counting, in the same words.
func soFar(d time.Duration) string {
	if d = max(d, 0); d < time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return span(d)
}

// money is an amount for columns: always two decimals, thousands apart.
func money(a credits.Amount) string {
	s := a.String()
	whole, frac, _ := strings.Cut(s, ".")
	return thousands(whole) + "." + (frac + "00")[:2]
}

// short is an amount for text: whole credits without decimals, others with two.
func short(a credits.Amount) string { return strings.TrimSuffix(money(a), ".00") }

// signed is money with a plus where something came in.
func signed(a credits.Amount) string {
	if a > 0 {
		return "+" + money(a)
	}
	return strings.Replace(money(a), "-", "−", 1)
}

func thousands(digits string) string {
	digits, neg := strings.CutPrefix(digits, "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if neg {
		return "-" + digits
	}
	return digits
}

func count(n int) string { return thousands(strconv.Itoa(n)) }

// many is a number with its noun.
func many(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + one + "s"
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

// price is what a task of an agent costs.
func price(a credits.Amount) string {
	if a == 0 {
		return "Free"
	}
	return short(a) + " credits"
}

// tone is how a status looks.
func tone(status string) string {
	switch status {
	case "completed", "online":
		return "good"
	case "failed":
		return "bad"
	case "running", "assigned":
		return "info"
	case "degraded", "retrying":
		return "warn"
	default: // pending, cancelled, skipped, offline
		return ""
	}
}

func live(status string) bool { return status == "running" || status == "assigned" }

func badgeTone(score float64) string {
	switch trust.Badge(score) {
	case "Verified Elite":
		return "good"
	case "Trusted":
		return "accent"
	case "Established":
		return "info"
	default:
		return ""
	}
}

// eventWords says what kind of evidence an event is.
func eventWords(t trust.EventType) string {
	return map[trust.EventType]string{
		trust.TaskCompleted: "Task completed", trust.TaskFailed: "Task failed", trust.TaskTimeout: "Task timed out", trust.SLABreach: "Promise broken",
		trust.RatingReceived: "Rating", trust.DisputeOpened: "Dispute opened", trust.DisputeResolved: "Dispute resolved",
	}[t]
}

func entryWords(t ledger.EntryType) string {
	return map[ledger.EntryType]string{
		ledger.TypeInitialGrant: "Initial credits", ledger.TypePurchase: "Purchase", ledger.TypeTaskDebit: "Task paid", ledger.TypeTaskCredit: "Earned",
		ledger.TypePlatformFee: "Platform fee", ledger.TypeRefund: "Refund", ledger.TypeHold: "Held", ledger.TypeRelease: "Released", ledger.TypeReversal: "Reversal",
	}[t]
}

// pretty is JSON as people read it.
func pretty(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return string(raw)
	}
	return unescape.Replace(b.String())
}

// unescape undoes what makes JSON safe to be put into HTML; here it is escaped for HTML anyway. An escaped backslash before
// it is left alone.
var unescape = strings.NewReplacer(`\\`, `\\`, `\u003c`, "<", `\u003e`, ">", `\u0026`, "&")

// cut shortens a text that is too long for a page.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
