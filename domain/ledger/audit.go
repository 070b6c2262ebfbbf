package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/nexus-protocol/nexus/domain/credits"
)

// maxFindings is how many findings are told.
const maxFindings = 20

// Finding is one thing that is not as it must be.
type Finding struct {
	About string // such as "entry 17", "account user:…:available", "transfer settle:…", "task …" or "seal 3"
	What  string
}

// String is the finding in one line.
func (f Finding) String() string { return f.About + ": " + f.What }

// Report is what came of an audit.
type Report struct {
	Entries  int
	Accounts int // of users, two of each
	Holds    int // of open tasks
	Seals    int
	Sealed   int       // entries that seals cover
	Head     Head      // of the last seal
	Totals   Totals    // of all entries
	Findings []Finding // the first maxFindings; none if all is well
	Wrong    int       // how many findings there are
}

// Audit works the whole ledger out again from its entries. It is told the seals and the entries in the order of booking,
// each seal before the entries that it covers, then the kept balances and the open tasks, all of one moment; and then asked
// for the report. It keeps what it needs for each account, no more for each entry.
type Audit struct {
	report   Report
	expected *Head

	users     map[string]*audited
	transfers map[string]imbalance // those that do not balance so far
	held      map[string]credits.Amount
	reported  map[string]bool // what has been told already

	last    int64
	seal    Seal // the newest
	seqs    []int64
	hashes  []Hash // of entries that the seal covers and that are to come
	done    bool   // it is checked
	drifted bool   // what seals say is not what the entries up to them add up to
	summed  Totals
}

type audited struct {
	sum     Balance
	running credits.Amount // of the available account, as the entries say
	off     bool           // they do not say the same any more
	kept    bool           // a balance is
}

type imbalance struct {
	key string
	sum credits.Amount
}

// NewAudit begins an audit. Where expected is not nil, a seal of that name must be among the seals.
func NewAudit(expected *Head) *Audit {
	return &Audit{
		expected: expected, users: map[string]*audited{}, transfers: map[string]imbalance{}, held: map[string]credits.Amount{}, reported: map[string]bool{},
	}
}

// found tells something, about one thing once.
func (a *Audit) found(about, format string, args ...any) {
	if a.reported[about] {
		return
	}
	a.reported[about] = true
	a.report.Wrong++
	if len(a.report.Findings) < maxFindings {
		a.report.Findings = append(a.report.Findings, Finding{about, fmt.Sprintf(format, args...)})
	}
}

// Seal adds the next seal.
func (a *Audit) Seal(s Seal) {
	a.endSeal()
	about := fmt.Sprintf("seal %d", s.N)
	switch {
	case s.N != a.seal.N+1:
		a.found(about, "it follows seal %d", a.seal.N)
	case s.Hash != s.chained(a.seal.Hash):
		a.found(about, "its hash is not that of what it says and of the seal before it")
	case s.To <= a.seal.To:
		a.found(about, "it covers nothing")
	}
	if a.expected != nil && a.expected.N == s.N && a.expected.Hash != s.Hash {
		a.found(about, "it is not the one that was noted down: the chain was written again")
	}
	a.report.Seals++
	a.report.Head = s.Head()
	a.seal, a.done = s, false
	a.seqs, a.hashes = s.marks()
	a.report.Sealed += len(a.seqs)
}

// endSeal is at the end of what the newest seal covers.
func (a *Audit) endSeal() {
	if a.done || a.seal.N == 0 {
		return
	}
	a.done = true
	for _, seq := range a.seqs {
		a.gone(seq)
	}
	a.seqs, a.hashes = nil, nil
	if a.summed != a.seal.Totals && !a.drifted {
		a.drifted = true // and so will be all seals that follow
		a.found(fmt.Sprintf("seal %d", a.seal.N), "the entries up to it do not add up to what it says")
	}
}

func (a *Audit) gone(seq int64) { a.found(fmt.Sprintf("entry %d", seq), "it was sealed, and is gone") }

// Entry adds the next entry.
func (a *Audit) Entry(e Booked) {
	about := fmt.Sprintf("entry %d", e.Seq)
	a.report.Entries++
	a.againstSeal(e, about)
	if e.Seq <= a.last {
		a.found(about, "it comes after entry %d", a.last)
	}
	a.last = e.Seq
	a.summed.add(e.Account, e.Amount)

	t := a.transfers[e.TransferID]
	if t.sum += e.Amount; t.sum == 0 {
		delete(a.transfers, e.TransferID)
	} else {
		t.key = e.Key
		a.transfers[e.TransferID] = t
	}
	switch {
	case e.Key == "":
		a.found(about, "its transfer %s is gone", e.TransferID)
	case !e.At.Equal(e.TransferAt):
		a.found(about, "its time is not that of its transfer")
	case !e.Account.known() || !slices.Contains(EntryTypes(), e.Type) || e.Amount == 0:
		a.found(about, "there is no account %q, type %q or amount of %s", e.Account, e.Type, e.Amount)
	}

	id, available, ok := e.Account.User()
	if !ok {
		return
	}
	u := a.user(id)
	u.sum.add(e.Type, available, e.Amount)
	if !available {
		if sum := a.held[e.Reference] + e.Amount; sum == 0 {
			delete(a.held, e.Reference)
		} else {
			a.held[e.Reference] = sum
		}
		return
	}
	switch u.running += e.Amount; {
	case u.running != e.BalanceAfter && !u.off:
		u.off = true // what follows differs too
		a.found(about, "the balance after it is %s, and the entries up to it add up to %s", e.BalanceAfter, u.running)
	case e.Type == TypeHold && e.Amount < 0 && u.running < 0 && !u.off:
		a.found(about, "it holds %s more than there was", -u.running)
	}
}

func (a *Audit) againstSeal(e Booked, about string) {
	for len(a.seqs) > 0 && a.seqs[0] < e.Seq {
		a.gone(a.seqs[0])
		a.seqs, a.hashes = a.seqs[1:], a.hashes[1:]
	}
	switch {
	case len(a.seqs) > 0 && a.seqs[0] == e.Seq:
		if e.Mark() != a.hashes[0] {
			a.found(about, "it, or its transfer, was changed after it was sealed")
		}
		a.seqs, a.hashes = a.seqs[1:], a.hashes[1:]
	case e.Seq <= a.seal.To:
		a.found(about, "it was added behind a seal")
	default:
		a.endSeal()
	}
}

func (a *Audit) user(id string) *audited {
	u := a.users[id]
	if u == nil {
		u = &audited{sum: Balance{UserID: id}}
		a.users[id] = u
	}
	return u
}

// Balance adds a balance as it is kept.
func (a *Audit) Balance(b Balance) {
	a.report.Accounts += 2
	u := a.user(b.UserID)
	u.kept = true
	switch {
	case b.Available != u.sum.Available:
		a.found("account "+string(Available(b.UserID)), "%s is kept, and its entries add up to %s", b.Available, u.sum.Available)
	case b.Held != u.sum.Held:
		a.found("account "+string(Held(b.UserID)), "%s is kept, and its entries add up to %s", b.Held, u.sum.Held)
	case b != u.sum:
		a.found("account "+string(Available(b.UserID)), "the totals that are kept are not those of its entries: %+v, and %+v", b, u.sum)
	case !b.Consistent():
		a.found("account "+string(Available(b.UserID)), "it does not add up: %+v", b)
	}
}

// Open adds what is to be held for an open task.
func (a *Audit) Open(h Hold) {
	a.report.Holds++
	if sum := a.held[h.TaskID]; sum != h.Amount {
		a.found("task "+h.TaskID, "it is open, and %s are held for it instead of its price of %s", sum, h.Amount)
	}
	delete(a.held, h.TaskID)
}

// Empty adds a transfer without entries.
func (a *Audit) Empty(transferID string) { a.found("transfer "+transferID, "it has no entries") }

// Report ends the audit.
func (a *Audit) Report() Report {
	a.endSeal()
	for _, id := range slices.Sorted(maps.Keys(a.transfers)) {
		t := a.transfers[id]
		a.found("transfer "+cmp.Or(t.key, id), "it does not balance: off by %s", t.sum)
	}
	for _, id := range slices.Sorted(maps.Keys(a.users)) {
		if u := a.users[id]; !u.kept {
			a.found("account "+string(Available(id)), "it has entries, and no balance is kept of it")
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.held)) {
		a.found("task "+id, "it is not open, and %s are held for it", a.held[id])
	}
	if a.expected != nil && a.expected.N > a.seal.N {
		a.found(fmt.Sprintf("seal %d", a.expected.N), "it was noted down, and is gone")
	}
	a.report.Totals = a.summed
	return a.report
}
