package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	gib = int64(1) << 30
	// What a slow reader may make the proxy hold: the sidecar's default memory limit.
	memoryLimit = int64(64) << 20
)

var boundsCases = []Case{
	{
		Group: "Bounds", Name: "1 GiB to a client that does not read for 2 s", Expect: "whole, and the proxy never above 64 MiB resident",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			client.SetDeadline(time.Now().Add(time.Minute))
			client.send("GET /zeros?length=" + strconv.FormatInt(gib, 10) + " HTTP/1.1\r\nHost: app\r\n\r\n")
			time.Sleep(2 * time.Second)
			answer, err := http.ReadResponse(client.Reader, nil)
			if err != nil {
				return err
			}
			length, err := io.Copy(io.Discard, answer.Body)
			if err := same(err, "bytes", fmt.Sprint(length), fmt.Sprint(gib)); err != nil {
				return err
			}
			return proxy.staysBelow(memoryLimit)
		},
	},
	{
		Group: "Bounds", Name: "1 GiB to an app that does not read for 2 s", Expect: "whole, and the proxy never above 64 MiB resident",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			body, err := post(proxy.url("/count?after=2s"), gib)
			if err := same(err, "bytes at the app", body, fmt.Sprint(gib)); err != nil {
				return err
			}
			return proxy.staysBelow(memoryLimit)
		},
	},
	{
		Group: "Bounds", Name: "a head of 1 MiB", Expect: "431, counted; the proxy goes on",
		Run: func(t *Try) error {
			return tooLarge(t, "X: "+strings.Repeat("x", 1<<20)+"\r\n")
		},
	},
	{
		Group: "Bounds", Name: "20,000 headers", Expect: "431, counted; the proxy goes on",
		Run: func(t *Try) error {
			return tooLarge(t, strings.Repeat("X: x\r\n", 20_000))
		},
	},
	{
		Group: "Bounds", Name: "slowhttptest, 200 slow heads", Expect: "the service stays available to others",
		Run: func(t *Try) error { return slowly(t, "-H") },
	},
	{
		Group: "Bounds", Name: "slowhttptest, 200 slow bodies", Expect: "the service stays available to others",
		Run: func(t *Try) error { return slowly(t, "-B") },
	},
	{
		Group: "Bounds", Name: "slowhttptest, 200 slow readers", Expect: "the service stays available to others",
		Run: func(t *Try) error { return slowly(t, "-X") },
	},
	{
		Group: "Bounds", Name: "a head that comes byte by byte", Expect: "the connection is ended within 100 s", Slow: true,
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			client.SetDeadline(time.Now().Add(2 * time.Minute))
			if !drip(client, 100*time.Second) {
				return fmt.Errorf("still open after 100 s")
			}
			return nil
		},
	},
	{
		Group: "Bounds", Name: "an HTTP/2 preface that stops halfway", Expect: "the connection is ended within 100 s", Slow: true,
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			client.SetDeadline(time.Now().Add(100 * time.Second))
			client.send("PRI * HT")
			if _, err := client.ReadString(0); err != nil && strings.Contains(err.Error(), "timeout") {
				return fmt.Errorf("still open after 100 s")
			}
			return nil
		},
	},
}

func (p *Proxy) staysBelow(limit int64) error {
	peak, err := p.resident("VmHWM")
	if err == nil && peak > limit {
		err = fmt.Errorf("%d MiB were resident", peak>>20)
	}
	return err
}

func tooLarge(t *Try, headers string) error {
	proxy, err := t.before("http")
	if err != nil {
		return err
	}
	client, err := proxy.dial(t)
	if err != nil {
		return err
	}
	// The proxy may answer and close before all is written.
	go client.send("GET / HTTP/1.1\r\nHost: app\r\n" + headers + "\r\n")
	answer, err := http.ReadResponse(client.Reader, nil)
	if err := expectStatus(answer, err, http.StatusRequestHeaderFieldsTooLarge); err != nil {
		return err
	}
	if err := proxy.counts(1, requests, `code="431"`, `reason="head_too_large"`); err != nil {
		return err
	}
	body, err := readAll(http.Get(proxy.url("/")))
	return same(err, "next answer", body, "hello\n")
}

// slowly attacks by slowhttptest for 8 s, which itself asks in between whether the service is available.
func slowly(t *Try, mode string) error {
	proxy, err := t.before("http")
	if err != nil {
		return err
	}
	args := []string{mode, "-c", "200", "-r", "200", "-i", "2", "-l", "8", "-p", "2", "-x", "24"}
	switch mode {
	case "-B":
		args = append(args, "-s", "8192", "-t", "POST", "-u", proxy.url("/count"))
	case "-X":
		args = append(args, "-w", "1", "-y", "16", "-n", "1", "-z", "4", "-k", "3", "-u", proxy.url("/zeros?length=100000"))
	default:
		args = append(args, "-u", proxy.url("/"))
	}
	attack := make(chan error, 1)
	var said string
	go func() {
		var err error
		said, err = command(3*time.Minute, "slowhttptest", args...)
		attack <- err
	}()
	client := &http.Client{Timeout: patience}
	for {
		select {
		case err := <-attack:
			if err == nil && !strings.Contains(said, "service available:") {
				err = fmt.Errorf("slowhttptest says nothing of availability: %s", said)
			}
			if err == nil && strings.Contains(plain(said), "service available:   NO") {
				err = fmt.Errorf("slowhttptest found the service unavailable")
			}
			return err
		case <-time.After(200 * time.Millisecond):
			if _, err := readAll(client.Get(proxy.url("/"))); err != nil {
				return fmt.Errorf("another client: %w", err)
			}
		}
	}
}

// plain removes what colours a terminal.
func plain(text string) string { return colour.ReplaceAllString(text, "") }
