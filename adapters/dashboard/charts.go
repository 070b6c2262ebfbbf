package dashboard

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
)

// chart is what the script draws: one x and a value of each series for it.
type chart struct {
	X      []int64       `json:"x"` // seconds
	Series []chartSeries `json:"series"`
	Kind   string        `json:"kind"` // bars or line
	Min    *float64      `json:"min,omitempty"`
	Max    *float64      `json:"max,omitempty"`
	Says   string        `json:"-"` // the same for those who do not see it
}

type chartSeries struct {
	Label  string    `json:"label"`
	Values []float64 `json:"values"`
}

func (c chart) data() string {
	b, _ := json.Marshal(c) // numbers and our own words
	return string(b)
}

func dayStart(date string) int64 {
	t, _ := time.Parse(time.DateOnly, date) // the engine's own dates
	return t.Unix()
}

func trustChart(days []app.DayScore) chart {
	low, high := 0.0, 100.0
	c := chart{Kind: "line", Min: &low, Max: &high, Series: []chartSeries{{Label: "Trust score"}}}
	for _, d := range days {
		c.X = append(c.X, dayStart(d.Day))
		c.Series[0].Values = append(c.Series[0].Values, d.Score)
	}
	if n := len(days); n > 0 {
		c.Says = fmt.Sprintf("Trust score of each day, from %s on %s to %s on %s", decimal(days[0].Score), days[0].Day, decimal(days[n-1].Score), days[n-1].Day)
	}
	return c
}

func usageChart(u app.Usage) chart {
	c := chart{Kind: "bars", Series: []chartSeries{{Label: "Spent"}, {Label: "Earned"}}}
	value := func(a credits.Amount) float64 { return float64(a) / float64(credits.Credit) }
	for _, d := range u.Daily {
		c.X = append(c.X, dayStart(d.Date))
		c.Series[0].Values = append(c.Series[0].Values, value(d.Spent))
		c.Series[1].Values = append(c.Series[1].Values, value(d.Earned))
	}
	c.Says = fmt.Sprintf("Credits of each day: %s spent and %s earned in %d days", short(u.TotalSpent), short(u.TotalEarned), len(u.Daily))
	return c
}
