// Package credits is the engine's money: whole hundredths of a credit in an int64, so that nothing is ever rounded by
// accident and an overflow is an error, never a negative charge.
package credits

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Amount is a number of hundredths of a credit. 950 is 9.5 credits.
type Amount int64

// Credit is one whole credit.
const Credit Amount = 100

// ErrSyntax is returned for a text that is no decimal number with at most two decimals.
var ErrSyntax = errors.New("not a number with at most two decimals")

// ErrRange is returned where a result does not fit.
var ErrRange = errors.New("amount out of range")

// Whole returns n whole credits. It is meant for constants; n must be below 10^16.
func Whole(n int64) Amount { return Amount(n) * Credit }

// Parse reads a decimal number such as "9.5", "-3" or "12.00". More than two significant decimals, an exponent, or
// anything that does not fit is an error: money is never rounded on the way in.
func Parse(s string) (Amount, error) {
	digits, neg := strings.CutPrefix(s, "-")
	whole, frac, hasPoint := strings.Cut(digits, ".")
	frac = strings.TrimRight(frac, "0")
	if whole == "" || !allDigits(whole) || !allDigits(frac) || len(frac) > 2 || (hasPoint && strings.HasSuffix(digits, ".")) {
		return 0, ErrSyntax
	}
	w, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || w > (math.MaxInt64-99)/int64(Credit) {
		return 0, ErrRange
	}
	var f int64
	if frac != "" {
		f, _ = strconv.ParseInt((frac + "0")[:2], 10, 64) // one or two digits, checked above
	}
	a := Amount(w*int64(Credit) + f)
	if neg {
		a = -a
	}
	return a, nil
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// String is the shortest decimal form: "9.5", "10", "-0.05".
func (a Amount) String() string {
	sign, n := "", uint64(a)
	if a < 0 {
		sign, n = "-", uint64(-(a+1))+1 // correct for the smallest int64 too
	}
	s := sign + strconv.FormatUint(n/100, 10)
	switch f := n % 100; {
	case f == 0:
		return s
	case f%10 == 0:
		return s + "." + strconv.FormatUint(f/10, 10)
	case f < 10:
		return s + ".0" + strconv.FormatUint(f, 10)
	default:
		return s + "." + strconv.FormatUint(f, 10)
	}
}

// Add returns a+b, or ErrRange when it does not fit.
func (a Amount) Add(b Amount) (Amount, error) {
	if (b > 0 && a > math.MaxInt64-b) || (b < 0 && a < math.MinInt64-b) {
		return 0, ErrRange
	}
	return a + b, nil
}

// BasisPoints returns the given share of a non-negative amount, rounded half up to a hundredth. 500 points are 5 %.
func (a Amount) BasisPoints(points int64) (Amount, error) {
	const whole = 10_000
	if a < 0 || points < 0 || points > whole {
		return 0, ErrRange
	}
	q, r := int64(a)/whole, int64(a)%whole // split so that the product cannot overflow
	return Amount(q*points + (r*points+whole/2)/whole), nil
}
