package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

var countCases = []Case{
	{
		Group: "Counts", Name: "a mix of requests", Expect: "/metrics and /stats have each of them once, and the bytes of their bodies",
		Run: mixed,
	},
	{
		Group: "Counts", Name: "a label that the client chooses", Expect: "10,000 methods, paths and hosts make no more than 200 series",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			for number := range 10_000 {
				client.send(fmt.Sprintf("M%d /p%d HTTP/1.1\r\nHost: h%d\r\n\r\n", number, number, number))
				if _, _, err := client.answer("GET"); err != nil {
					return err
				}
			}
			text, err := read(fmt.Sprintf("http://127.0.0.1:%d/metrics", proxy.Admin))
			if err != nil {
				return err
			}
			if found := strings.Count(text, "\n"+requests+"{"); found > 200 {
				return fmt.Errorf("%d series", found)
			}
			return proxy.counts(10_000, requests)
		},
	},
	{
		Group: "Counts", Name: "an exposition that Prometheus can read", Expect: "each family with HELP and TYPE, no series twice, # EOF at the end",
		Run: readable,
	},
}

func mixed(t *Try) error {
	proxy, err := t.before("http")
	if err != nil {
		return err
	}
	for number := range 100 {
		if _, err := readAll(http.Get(proxy.url("/zeros?length=10"))); err != nil {
			return fmt.Errorf("GET %d: %w", number, err)
		}
	}
	for range 20 {
		if _, err := readAll(http.Post(proxy.url("/echo"), "text/plain", bytes.NewReader(make([]byte, 1000)))); err != nil {
			return err
		}
	}
	for range 7 {
		answer, err := http.Get(proxy.url("/status/404"))
		if err := expectStatus(answer, err, 404); err != nil {
			return err
		}
	}
	for range 3 {
		answer, err := http.Head(proxy.url("/zeros?length=500"))
		if err := expectStatus(answer, err, 200); err != nil {
			return err
		}
	}
	// Of unknown length, so in chunks, whose framing is no body.
	for range 4 {
		if _, err := readAll(http.Post(proxy.url("/echo"), "text/plain", struct{ *bytes.Reader }{bytes.NewReader(make([]byte, 10))})); err != nil {
			return err
		}
	}
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		request, err := http.NewRequestWithContext(ctx, "DELETE", proxy.url("/slow?for=2s"), nil)
		if err != nil {
			cancel()
			return err
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			answer.Body.Close()
		}
		cancel()
	}
	return mixedIsCounted(proxy)
}

func mixedIsCounted(proxy *Proxy) error {
	for _, one := range []struct {
		want   float64
		family string
		labels []string
	}{
		{100, requests, []string{`method="GET"`, `code="200"`, `reason=""`}},
		{24, requests, []string{`method="POST"`, `code="200"`, `reason=""`}},
		{7, requests, []string{`method="GET"`, `code="404"`, `reason=""`}},
		{3, requests, []string{`method="HEAD"`, `code="200"`, `reason=""`}},
		{2, requests, []string{`method="DELETE"`, `reason="client_closed"`}},
		{136, requests, nil},
		{136, "outrigger_http_request_duration_seconds_count", nil},
		{0, "outrigger_http_active_requests", nil},
		{20_040, "outrigger_http_request_body_bytes_total", nil},
	} {
		if err := proxy.counts(one.want, one.family, one.labels...); err != nil {
			return err
		}
	}
	// Go's 404 has no body here, so these are the echoes and the zeros.
	if err := proxy.counts(21_040, "outrigger_http_response_body_bytes_total"); err != nil {
		return err
	}
	stats, err := proxy.stats()
	if err != nil {
		return err
	}
	http := stats.Ports[0].HTTP
	got := fmt.Sprint(http.Requests, http.CodeClasses["2xx"], http.CodeClasses["4xx"], http.Errors["client_closed"], http.InFlight, http.RequestBodyBytes, http.ResponseBodyBytes)
	// 499, what a client that left is counted as, is one of the 4xx.
	return same(nil, "/stats: requests, 2xx, 4xx, client_closed, in flight, bytes", got, "136 127 9 2 0 20040 21040")
}

func readable(t *Try) error {
	proxy, err := t.before("http")
	if err != nil {
		return err
	}
	if _, err := readAll(http.Get(proxy.url("/"))); err != nil {
		return err
	}
	text, err := read(fmt.Sprintf("http://127.0.0.1:%d/metrics", proxy.Admin))
	if err != nil {
		return err
	}
	if !strings.HasSuffix(text, "\n# EOF\n") {
		return fmt.Errorf("no # EOF at the end")
	}
	described, seen := map[string]int{}, map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if fields := strings.Fields(line); fields[0] == "#" {
			if len(fields) > 2 {
				described[fields[2]]++
			}
			continue
		}
		name, value, ok := strings.Cut(line, "} ")
		if !ok {
			name, value, _ = strings.Cut(line, " ")
		}
		if seen[name] {
			return fmt.Errorf("%s} appears twice", name)
		}
		seen[name] = true
		if _, err := strconv.ParseFloat(strings.Fields(value)[0], 64); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		family, _, _ := strings.Cut(name, "{")
		suffix := regexp.MustCompile("_(total|bucket|sum|count|info)$")
		if described[family] < 2 && described[suffix.ReplaceAllString(family, "")] < 2 {
			return fmt.Errorf("%s has no HELP and TYPE before it", family)
		}
	}
	return nil
}
