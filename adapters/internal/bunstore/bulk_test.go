package bunstore

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// However calls are gathered, every table sees its statements in the order in which they were sent, a row's key is in a
// lot once, and no call is lost.
func TestGatheringKeepsTheOrderOfEveryTable(t *testing.T) {
	s := New(Config{Dialect: Dialect{Bulk: true}})
	defer func() { require.NoError(t, s.Close()) }()
	kinds := []statement{qInsertTask, qSaveTask, qLockTask, qSaveRun, qEnqueue, qFinish, qRetry, qProfile, qSaveProfile, qSavePair, qChange, qInsertEvents.byRows[0], qHistory}
	rapid.Check(t, func(t *rapid.T) {
		var calls []*call
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			q := rapid.SampledFrom(kinds).Draw(t, "kind")
			width := 40
			if q.bulk != nil {
				width = len(q.bulk.kinds)
			}
			args := make([]any, width)
			for i := range args {
				args[i] = fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "row"))
			}
			calls = append(calls, &call{statement: q, args: args})
		}
		place := map[*call]int{}
		for i, l := range s.gather(calls) {
			rows := map[string]bool{}
			for _, k := range l.all() {
				place[k] = i
				require.Equal(t, l.bulk, k.bulk)
			}
			for _, k := range l.calls {
				if l.bulk != nil && l.bulk.key != nil {
					key := k.rowKey(l.bulk.key)
					require.False(t, rows[key], "twice in one lot")
					rows[key] = true
				}
			}
		}
		require.Len(t, place, len(calls))
		for i, k := range calls {
			for _, earlier := range calls[:i] {
				if s.tables[k.id]&s.tables[earlier.id] != 0 && k.bulk != earlier.bulk {
					require.LessOrEqual(t, place[earlier], place[k], "%s before %s", earlier.text, k.text)
					require.NotEqual(t, place[earlier], place[k])
				}
			}
		}
	})
}

// Of calls that say all there is to say about a row, the last one counts.
func TestTheLastWordCounts(t *testing.T) {
	s := New(Config{Dialect: Dialect{Bulk: true}})
	defer func() { require.NoError(t, s.Close()) }()
	save := func(id, status string) *call {
		args := make([]any, len(qSaveTask.bulk.kinds))
		for i := range args {
			args[i] = 0
		}
		args[0], args[6], args[7], args[14], args[15], args[16], args[17] = status, "", "", "", "", "", id
		return &call{statement: qSaveTask, args: args}
	}
	calls := []*call{save("a", "1"), save("b", "1"), save("a", "2")}
	lots := s.gather(calls)
	require.Len(t, lots, 1)
	sent, err := lots[0].sent(s)
	require.NoError(t, err)
	require.Equal(t, []string{"2", "1"}, sent.Args[0])
	require.Equal(t, []string{"a", "b"}, sent.Args[17])
	sent.Rows = 1
	require.ErrorIs(t, lots[0].answered(sent), errShort, "one of them was not there")
	sent.Rows = 2
	require.NoError(t, lots[0].answered(sent))
	for _, k := range calls {
		require.EqualValues(t, 1, k.rows)
	}
}
