package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

const (
	begin = "<!-- make conformance: begin -->\n"
	end   = "<!-- make conformance: end -->"
)

// writePage replaces what stands between the page's markers.
func writePage(path, about string, outcomes []Outcome) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no markers %s and %s", path, strings.TrimSpace(begin), end)
	}
	return os.WriteFile(path, []byte(before+begin+section(about, outcomes)+end+after), 0o644)
}

func section(about string, outcomes []Outcome) string {
	var out strings.Builder
	passed, group := 0, ""
	for _, outcome := range outcomes {
		if outcome.Err == nil {
			passed++
		}
	}
	fmt.Fprintf(&out, "%s\n\n%d of %d cases passed.\n", about, passed, len(outcomes))
	for _, outcome := range outcomes {
		if outcome.Group != group {
			group = outcome.Group
			fmt.Fprintf(&out, "\n### %s\n\n| case | expected | |\n|---|---|---|\n", group)
		}
		fmt.Fprintf(&out, "| %s | %s | %s |\n", cell(outcome.Name), cell(outcome.Expect), verdict(outcome))
	}
	return out.String()
}

func verdict(outcome Outcome) string {
	switch {
	case outcome.Err == nil:
		return "passed"
	case errors.Is(outcome.Err, errSkipped):
		return cell(outcome.Err.Error())
	case outcome.Known != "":
		return "**failed**: " + cell(outcome.Known)
	default:
		return "**failed**: " + cell(outcome.Err.Error())
	}
}

// cell makes a text fit for a cell of a table: one line, no bars, no endless bytes, no ports, which differ from run to run.
func cell(text string) string {
	text = strings.NewReplacer("\r", "", "\n", " ", "|", "\\|", "<", "&lt;").Replace(text)
	text = portNumber.ReplaceAllString(text, "127.0.0.1")
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200]) + " …"
	}
	return text
}
