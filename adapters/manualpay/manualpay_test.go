package manualpay_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/manualpay"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestPayments(t *testing.T) {
	require.NoError(t, portstest.Payments(t.Context(), manualpay.New(manualpay.Options{}), portstest.Provider{Gives: true}))
}

func TestAGrantIsBounded(t *testing.T) {
	p := manualpay.New(manualpay.Options{Max: credits.Whole(10)})
	begin := func(n credits.Amount) error {
		_, err := p.Begin(t.Context(), billing.Order{ID: "a", UserID: "b", Grant: &billing.Grant{ID: "a", UserID: "b", ByID: "c", Credits: n, Reason: "x"}})
		return err
	}
	require.NoError(t, begin(credits.Whole(10)))
	require.True(t, fault.Has(begin(credits.Whole(10)+1), fault.CodeValidation))
}
