package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// Booked is an entry with its place in the order of booking, and what stands in its transfer.
type Booked struct {
	Seq int64 // above 0, and growing; there are gaps
	Entry
	Key        string    // the transfer's; "" if there is no such transfer
	TransferAt time.Time // the transfer's
}

// Hash is a SHA-256.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Mark is the hash of one entry with all that it says.
func (b Booked) Mark() Hash {
	var buf []byte
	for _, n := range []int64{b.Seq, int64(b.Amount), int64(b.BalanceAfter), b.At.UnixMicro(), b.TransferAt.UnixMicro()} {
		buf = binary.BigEndian.AppendUint64(buf, uint64(n))
	}
	for _, s := range []string{b.ID, b.TransferID, string(b.Account), string(b.Type), b.Key, b.Reference, b.Description} {
		buf = binary.BigEndian.AppendUint64(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	return sha256.Sum256(buf)
}

// Totals are the sums of entries by kind of account. Over whole transfers they add up to 0.
type Totals struct {
	Available, Held, Fees, Issuance, Clearing credits.Amount
}

// add counts an entry in. Sums wrap round where they do not fit, which an imbalance then shows.
func (t *Totals) add(a Account, n credits.Amount) {
	switch _, available, user := a.User(); {
	case user && available:
		t.Available += n
	case user:
		t.Held += n
	case a == Fees:
		t.Fees += n
	case a == Issuance:
		t.Issuance += n
	case a == Clearing:
		t.Clearing += n
	}
}

// Of is the sum of one of the platform's accounts; ok is false for any other.
func (t Totals) Of(a Account) (sum credits.Amount, ok bool) {
	switch a {
	case Fees:
		return t.Fees, true
	case Issuance:
		return t.Issuance, true
	case Clearing:
		return t.Clearing, true
	}
	return 0, false
}

// SealSize is how many entries a seal covers at most.
const SealSize = 2_000

// markSize is that of an entry's place and its hash.
const markSize = 8 + sha256.Size

// Seal is a link of the chain over the entries: it covers all of them behind its predecessor, up to To, and hangs on its
// predecessor's hash. Whoever knows the hash of a seal can tell whether anything before it was changed, added or removed.
// The zero value stands before the first.
type Seal struct {
	N      int64 // from 1 on, without gaps
	To     int64 // the Seq of the last entry that it covers
	Totals Totals
	At     time.Time
	Marks  []byte // of each entry that it covers, in order: its Seq in 8 bytes and its Mark
	Hash   Hash   // of all this and the predecessor's
}

// Next makes the seal that follows s, over entries in order of booking; there must be one, at most SealSize of them, and
// none that may still come before the last.
func (s Seal) Next(entries []Booked, at time.Time) Seal {
	next := Seal{N: s.N + 1, Totals: s.Totals, At: at, Marks: make([]byte, 0, len(entries)*markSize)}
	for _, e := range entries {
		next.To = e.Seq
		next.Totals.add(e.Account, e.Amount)
		mark := e.Mark()
		next.Marks = append(binary.BigEndian.AppendUint64(next.Marks, uint64(e.Seq)), mark[:]...)
	}
	next.Hash = next.chained(s.Hash)
	return next
}

// chained is what the hash of a seal behind one of the hash prev must be.
func (s Seal) chained(prev Hash) Hash {
	buf := []byte("nexus ledger seal\n")
	buf = append(buf, prev[:]...)
	for _, n := range []int64{
		s.N, s.To, int64(s.Totals.Available), int64(s.Totals.Held), int64(s.Totals.Fees), int64(s.Totals.Issuance), int64(s.Totals.Clearing), s.At.UnixMicro(),
	} {
		buf = binary.BigEndian.AppendUint64(buf, uint64(n))
	}
	return sha256.Sum256(append(buf, s.Marks...))
}

// marks are what the seal says of each entry.
func (s Seal) marks() (seqs []int64, hashes []Hash) {
	for m := range slices.Chunk(s.Marks, markSize) {
		if len(m) == markSize {
			seqs = append(seqs, int64(binary.BigEndian.Uint64(m)))
			hashes = append(hashes, Hash(m[8:]))
		}
	}
	return seqs, hashes
}

// Head names a seal, to be noted down somewhere else: whoever rewrote the ledger and all its seals cannot keep it.
type Head struct {
	N    int64
	Hash Hash
}

// Head is the seal's name.
func (s Seal) Head() Head { return Head{s.N, s.Hash} }

// String is the form that ParseHead reads.
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.N, h.Hash) }

// ParseHead reads what String wrote.
func ParseHead(text string) (Head, error) {
	n, digits, _ := strings.Cut(text, ":")
	h := Head{}
	var err error
	h.N, err = strconv.ParseInt(n, 10, 64)
	raw, err2 := hex.DecodeString(digits)
	if err != nil || err2 != nil || h.N < 1 || len(raw) != len(h.Hash) {
		return Head{}, fault.New(fault.Invalid, fault.CodeValidation, "a head is a number, a colon and 64 hexadecimal digits, not %q", text)
	}
	h.Hash = Hash(raw)
	return h, nil
}
