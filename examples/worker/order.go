package worker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// order is what a message asks for.
type order struct {
	steps int
	delay time.Duration
	mode  string
	words int
}

// wish is an order as callers write it.
type wish struct {
	Steps   *int            `json:"steps"`
	DelayMs *int            `json:"delayMs"`
	Mode    *string         `json:"mode"`
	Text    json.RawMessage `json:"text"` // counts when it is a string
}

// readOrder finds the order in a message, and the text that is there beside it.
func readOrder(parts []incomingPart) (order, string, *rpcError) {
	var w wish
	var texts []string
	for i, p := range parts {
		data := p.Data
		switch p.Kind {
		case "data":
		case "text":
			if !isWish(p.Text) {
				texts = append(texts, p.Text)
				continue
			}
			data = []byte(p.Text)
		case "file":
			return order{}, "", refuse(codeContentType, "parts[%d] is a file; this agent reads text and data", i)
		default:
			return order{}, "", refuse(codeParams, "parts[%d].kind is neither text nor data", i)
		}
		w.Text = nil
		if len(data) == 0 || data[0] != '{' && p.Kind == "data" {
			return order{}, "", refuse(codeParams, "parts[%d].data is not an object", i)
		}
		if err := json.Unmarshal(data, &w); err != nil {
			return order{}, "", refuse(codeParams, "parts[%d] is no order: steps and delayMs are whole numbers, mode is a string", i)
		}
		var text string
		if json.Unmarshal(w.Text, &text) == nil {
			texts = append(texts, text)
		}
	}
	text := strings.Join(texts, "\n")
	o := order{steps: 5, delay: 600 * time.Millisecond, mode: "ok", words: len(strings.Fields(text))}
	if w.Steps != nil {
		if o.steps = *w.Steps; o.steps < 1 || o.steps > maxSteps {
			return order{}, "", refuse(codeParams, "steps is 1 to %d", maxSteps)
		}
	}
	if w.DelayMs != nil {
		if *w.DelayMs < 0 || *w.DelayMs > int(maxDelay/time.Millisecond) {
			return order{}, "", refuse(codeParams, "delayMs is 0 to %d", maxDelay/time.Millisecond)
		}
		o.delay = time.Duration(*w.DelayMs) * time.Millisecond
	}
	if w.Mode != nil {
		if o.mode = *w.Mode; !slices.Contains([]string{"ok", "fail", "stall", "ask"}, o.mode) {
			return order{}, "", refuse(codeParams, "mode is ok, fail, stall or ask")
		}
	}
	return o, text, nil
}

// isWish reports whether a text is an order in JSON rather than words.
func isWish(text string) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &fields) != nil {
		return false
	}
	return fields["steps"] != nil || fields["delayMs"] != nil || fields["mode"] != nil
}

// line is what there is to say about a step. Each step counts its share of the words.
func (o order) line(step int) string {
	before, after := (step-1)*o.words/o.steps, step*o.words/o.steps
	return fmt.Sprintf("step %d of %d: words %d, so far %d", step, o.steps, after-before, after)
}
