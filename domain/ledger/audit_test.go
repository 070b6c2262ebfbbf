package ledger_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/ledger"
)

// kept is a whole ledger as a store keeps it.
type kept struct {
	entries  []ledger.Booked
	balances map[string]ledger.Balance
	open     []ledger.Hold
	seals    []ledger.Seal
	empty    []string
}

func (k *kept) book(t *testing.T, tr ledger.Transfer, err error) {
	t.Helper()
	require.NoError(t, err)
	n := 0
	tr = tr.Stamp(func() string { n++; return fmt.Sprint(tr.Key, "/", n) })
	require.NoError(t, tr.Validate())
	after := map[string]credits.Amount{}
	for _, d := range tr.Deltas() {
		b := k.balances[d.UserID]
		b.UserID = d.UserID
		b, err = b.Apply(d)
		require.NoError(t, err)
		k.balances[d.UserID], after[d.UserID] = b, b.Available
	}
	for _, e := range tr.Entries(after) {
		k.entries = append(k.entries, ledger.Booked{Seq: int64(3 * (len(k.entries) + 1)), Entry: e, Key: tr.Key, TransferAt: tr.At})
	}
}

func (k *kept) sealed(from, to int) {
	var last ledger.Seal
	if n := len(k.seals); n > 0 {
		last = k.seals[n-1]
	}
	k.seals = append(k.seals, last.Next(k.entries[from:to], time.Unix(99, 0)))
}

func (k *kept) audit(expected *ledger.Head) ledger.Report {
	a := ledger.NewAudit(expected)
	rest := k.entries
	for _, s := range k.seals {
		a.Seal(s)
		for len(rest) > 0 && rest[0].Seq <= s.To {
			a.Entry(rest[0])
			rest = rest[1:]
		}
	}
	for _, e := range rest {
		a.Entry(e)
	}
	for _, b := range k.balances {
		a.Balance(b)
	}
	for _, h := range k.open {
		a.Open(h)
	}
	for _, id := range k.empty {
		a.Empty(id)
	}
	return a.Report()
}

// ledgerOf has 15 entries, eleven of them under two seals, the second of which begins within a transfer, and an open task.
func ledgerOf(t *testing.T) *kept {
	k := &kept{balances: map[string]ledger.Balance{}}
	at := time.Unix(7, 0)
	paid := ledger.Hold{TaskID: "t1", UserID: "ann", Amount: 1001, Title: "Paid"}
	open := ledger.Hold{TaskID: "t2", UserID: "ann", Amount: 300, Title: "Open"}
	bought := ledger.Issue{ID: "cs_1", UserID: "bob", Amount: 500, Description: "500"}
	k.book(t, ledger.Grant("ann", at), nil)
	tr, err := paid.Place(at)
	k.book(t, tr, err)
	tr, err = paid.Capture("bob", at)
	k.book(t, tr, err)
	k.sealed(0, 8)
	tr, err = bought.Credit(at)
	k.book(t, tr, err)
	k.sealed(8, 11)
	tr, err = open.Place(at)
	k.book(t, tr, err)
	tr, err = bought.Reverse(0, 500, 1, at)
	k.book(t, tr, err)
	k.open = []ledger.Hold{open}
	return k
}

func TestASoundLedgerPassesItsAudit(t *testing.T) {
	k := ledgerOf(t)
	require.Len(t, k.entries, 15)
	head := k.seals[1].Head()
	parsed, err := ledger.ParseHead(head.String())
	require.NoError(t, err)
	require.Equal(t, head, parsed)
	for _, expected := range []*ledger.Head{nil, &head, {N: 1, Hash: k.seals[0].Hash}} {
		r := k.audit(expected)
		require.Empty(t, r.Findings)
		require.Equal(t, []int{15, 4, 1, 2, 11, 0}, []int{r.Entries, r.Accounts, r.Holds, r.Seals, r.Sealed, r.Wrong})
	}
	for _, bad := range []string{"", "1", "1:", "x:" + k.seals[0].Hash.String(), "0:" + k.seals[0].Hash.String(), "1:" + k.seals[0].Hash.String()[2:]} {
		_, err := ledger.ParseHead(bad)
		require.Error(t, err, bad)
	}
}

func TestTheAuditFindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(k *kept)
		about string // the first finding's
	}{
		"an amount under a seal": {func(k *kept) { k.entries[1].Amount++ }, "entry 6"},
		"an amount":              {func(k *kept) { k.entries[11].Amount -= 5 }, "entry 36"},
		"a hold of what there is not": {func(k *kept) {
			for i, before := 11, credits.Amount(100_000); i < 13; i++ {
				k.entries[i].Amount *= 1000
				k.entries[i].BalanceAfter = map[int]credits.Amount{11: before - 1001 - 300_000}[i]
			}
		}, "entry 36"},
		"a balance after":                 {func(k *kept) { k.entries[11].BalanceAfter++ }, "entry 36"},
		"a description under a seal":      {func(k *kept) { k.entries[4].Description = "x" }, "entry 15"},
		"a time under a seal":             {func(k *kept) { k.entries[4].At, k.entries[4].TransferAt = time.Unix(1, 0), time.Unix(1, 0) }, "entry 15"},
		"a time":                          {func(k *kept) { k.entries[11].At = time.Unix(1, 0) }, "entry 36"},
		"an owner under a seal":           {func(k *kept) { k.entries[6].Account = ledger.Available("eve") }, "entry 21"},
		"an entry that is gone":           {func(k *kept) { k.entries = slices.Delete(k.entries, 11, 12) }, "account user:ann:available"},
		"a sealed entry that is gone":     {func(k *kept) { k.entries = slices.Delete(k.entries, 7, 8) }, "entry 24"},
		"the last one under a seal":       {func(k *kept) { k.entries = slices.Delete(k.entries, 8, 9) }, "entry 27"},
		"an entry behind a seal":          {func(k *kept) { e := k.entries[3]; e.Seq = 13; k.entries = slices.Insert(k.entries, 4, e) }, "entry 13"},
		"a transfer that is gone":         {func(k *kept) { k.entries[11].Key = "" }, "entry 36"},
		"a transfer without entries":      {func(k *kept) { k.empty = []string{"x"} }, "transfer x"},
		"a sealed transfer's reference":   {func(k *kept) { k.entries[2].Reference = "x" }, "entry 9"},
		"half a transfer":                 {func(k *kept) { k.entries = k.entries[:14] }, "transfer reversal:purchase:cs_1:1"},
		"a type that there is not":        {func(k *kept) { k.entries[13].Type = "gift" }, "entry 42"},
		"two entries in another order":    {func(k *kept) { k.entries[11], k.entries[12] = k.entries[12], k.entries[11] }, "entry 36"},
		"a balance":                       {func(k *kept) { b := k.balances["ann"]; b.Available++; k.balances["ann"] = b }, "account user:ann:available"},
		"a balance of what is held":       {func(k *kept) { b := k.balances["ann"]; b.Held++; k.balances["ann"] = b }, "account user:ann:held"},
		"a total":                         {func(k *kept) { b := k.balances["bob"]; b.Earned++; b.Purchased--; k.balances["bob"] = b }, "account user:bob:available"},
		"a balance that is gone":          {func(k *kept) { delete(k.balances, "bob") }, "account user:bob:available"},
		"a balance from nothing":          {func(k *kept) { k.balances["eve"] = ledger.Balance{UserID: "eve", Available: 1, Granted: 1} }, "account user:eve:available"},
		"a task that is not open":         {func(k *kept) { k.open = nil }, "task t2"},
		"a task that nothing is held for": {func(k *kept) { k.open = append(k.open, ledger.Hold{TaskID: "t3", Amount: 1}) }, "task t3"},
		"a task with another price":       {func(k *kept) { k.open[0].Amount++ }, "task t2"},
		"a seal that is gone":             {func(k *kept) { k.seals = k.seals[1:] }, "seal 2"},
		"a seal's totals":                 {func(k *kept) { k.seals[0].Totals.Fees++ }, "seal 1"},
		"a seal's hash":                   {func(k *kept) { k.seals[0].Hash[0]++ }, "seal 1"},
		"a seal's time":                   {func(k *kept) { k.seals[1].At = time.Unix(1, 0) }, "seal 2"},
		"a seal's marks":                  {func(k *kept) { k.seals[1].Marks[12]++ }, "seal 2"},
		"a chain written again": {func(k *kept) {
			k.entries[1].Description = "Nothing to see here"
			k.seals = nil
			k.sealed(0, 8)
			k.sealed(8, 11)
		}, "seal 2"},
		"a chain cut short": {func(k *kept) { k.seals = k.seals[:1] }, "seal 2"},
	} {
		t.Run(name, func(t *testing.T) {
			k := ledgerOf(t)
			head := k.seals[1].Head()
			c.spoil(k)
			r := k.audit(&head)
			require.NotEmpty(t, r.Findings)
			require.Equal(t, c.about, r.Findings[0].About, "%v", r.Findings)
			require.False(t, strings.Contains(r.Findings[0].String(), "\n"))
		})
	}
}
