package httpapi

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A spreadsheet runs what begins like a formula, such as a title that a stranger gave a task.
func TestATableHasNoFormulas(t *testing.T) {
	for _, bad := range []string{
		`=HYPERLINK("https://evil.example","x")`, "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\u00a0=1", "\ufeff=1", "＝1", "＋1", "－1", "＠1",
	} {
		assert.Equal(t, "'"+bad, harmless(bad), "%q", bad)
	}
	for _, good := range []string{"", "Task: =1", "'=1", "a-b", "1,000 credits", " ", "ünïcode"} {
		assert.Equal(t, good, harmless(good), "%q", good)
	}
}

func TestWhoWantsATable(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "text/*": false, "application/json": false, "text/csv": true, "TEXT/CSV; header=present": true, "text/html, text/csv;q=0.2": true,
		"text/csv, application/json": true, "text/csv;q=0.9, application/json": false, "text/csv;q=0": false, "text/csv;q=x": false, "text/csvx": false, ";": false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept", accept)
		assert.Equal(t, want, wantsCSV(r, ""), "%q", accept)
		assert.True(t, wantsCSV(r, "csv"))
		assert.False(t, wantsCSV(r, "json"))
	}
}
