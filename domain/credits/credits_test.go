package credits_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/domain/credits"
)

func TestParse(t *testing.T) {
	good := map[string]credits.Amount{
		"0": 0, "10": 1000, "9.5": 950, "9.50": 950, "0.05": 5, "-3": -300, "-0.01": -1, "12.000": 1200,
		"92233720368547757.99": 9223372036854775799,
	}
	for in, want := range good {
		got, err := credits.Parse(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "-", ".", "1.", ".5", "1.234", "0.001", "1e3", "0x10", "+1", "1,5", " 1", "NaN", "99999999999999999999", "92233720368547758.08", "--1", "١"} {
		_, err := credits.Parse(in)
		require.Error(t, err, in)
	}
}

func TestStringIsReadBack(t *testing.T) {
	require.Equal(t, "-92233720368547758.08", credits.Amount(math.MinInt64).String())
	rapid.Check(t, func(t *rapid.T) {
		a := credits.Amount(rapid.Int64Range(-1<<60, 1<<60).Draw(t, "a"))
		back, err := credits.Parse(a.String())
		if err != nil || back != a {
			t.Fatalf("%d → %q → %d, %v", a, a, back, err)
		}
	})
}

func TestAddRefusesOverflow(t *testing.T) {
	_, err := credits.Amount(math.MaxInt64).Add(1)
	require.ErrorIs(t, err, credits.ErrRange)
	_, err = credits.Amount(math.MinInt64).Add(-1)
	require.ErrorIs(t, err, credits.ErrRange)
	sum, err := credits.Amount(math.MaxInt64).Add(-1)
	require.NoError(t, err)
	require.EqualValues(t, math.MaxInt64-1, sum)
}

func TestBasisPointsRoundHalfUp(t *testing.T) {
	for in, want := range map[credits.Amount]credits.Amount{0: 0, 9: 0, 10: 1, 29: 1, 30: 2, 1000: 50, 1001: 50, 1010: 51, math.MaxInt64: 461168601842738790} {
		got, err := in.BasisPoints(500)
		require.NoError(t, err)
		require.Equal(t, want, got, "5 %% of %d hundredths", in)
	}
	_, err := credits.Amount(-1).BasisPoints(500)
	require.ErrorIs(t, err, credits.ErrRange)
}
