package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var series = regexp.MustCompile(`^([a-z_]+)\{([^}]*)\} ([0-9.e+-]+)`)

// metric sums the series of a family that have all these labels, given as `name="value"`.
func (p *Proxy) metric(family string, labels ...string) (float64, error) {
	text, err := read(fmt.Sprintf("http://127.0.0.1:%d/metrics", p.Admin))
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for line := range strings.Lines(text) {
		found := series.FindStringSubmatch(line)
		if found == nil || found[1] != family || !hasAll(found[2], labels) {
			continue
		}
		value, err := strconv.ParseFloat(found[3], 64)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
}

func hasAll(found string, labels []string) bool {
	for _, label := range labels {
		if !strings.Contains(","+found+",", ","+label+",") {
			return false
		}
	}
	return true
}

// counts waits until the family has exactly this value: a request is counted when its end is seen, which may be just
// after the client has its answer.
func (p *Proxy) counts(want float64, family string, labels ...string) error {
	return within(soon, func() error {
		got, err := p.metric(family, labels...)
		if err == nil && got != want {
			err = fmt.Errorf("%s{%s} is %v, and the client saw %v", family, strings.Join(labels, ","), got, want)
		}
		return err
	})
}

const requests = "outrigger_http_requests_total"

// Stats is what these cases need of /stats.
type Stats struct {
	Ports []struct {
		Port string
		HTTP struct {
			Requests          float64
			CodeClasses       map[string]float64
			Errors            map[string]float64
			InFlight          float64
			RequestBodyBytes  float64
			ResponseBodyBytes float64
		}
		TCP struct {
			ConnectionsOpened, ConnectionsOpen, ReadBytes, WrittenBytes float64
		}
	}
}

func (p *Proxy) stats() (stats Stats, err error) {
	text, err := read(fmt.Sprintf("http://127.0.0.1:%d/stats", p.Admin), "Authorization", "Bearer "+token)
	if err == nil {
		err = json.Unmarshal([]byte(text), &stats)
	}
	if err == nil && len(stats.Ports) != 1 {
		err = fmt.Errorf("/stats has %d ports", len(stats.Ports))
	}
	return stats, err
}
