package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

var http2Cases = []Case{
	{
		Group: "HTTP/2", Name: "curl --http2-prior-knowledge", Expect: "200 by HTTP/2, counted",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			out, err := command(patience, "curl", "-sS", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", proxy.url("/"))
			if err := same(err, "answer", out, "200 2"); err != nil {
				return err
			}
			return proxy.counts(1, requests, `code="200"`)
		},
	},
	{
		Group: "HTTP/2", Name: "nghttp, a body and its echo", Expect: "comes back whole, counted",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			dir, err := t.work()
			if err != nil {
				return err
			}
			// More than the windows that either side begins with.
			body := strings.Repeat("0123456789", 50_000)
			file := filepath.Join(dir, "body")
			if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
				return err
			}
			out, err := command(patience, "nghttp", "-d", file, proxy.url("/echo"))
			if err == nil && out != body {
				err = fmt.Errorf("%d of %d bytes came back, or others", len(out), len(body))
			}
			if err != nil {
				return err
			}
			return proxy.counts(1, requests, `method="POST"`, `code="200"`)
		},
	},
	{
		Group: "HTTP/2", Name: "nghttp, a trailer of the request", Expect: "the app echoes it as a trailer, and one of its own",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			dir, err := t.work()
			if err != nil {
				return err
			}
			file := filepath.Join(dir, "body")
			if err := os.WriteFile(file, []byte("abc"), 0o644); err != nil {
				return err
			}
			out, err := command(patience, "nghttp", "-v", "-d", file, "-H", "trailer: x-sum", "--trailer", "x-sum: 6", proxy.url("/echo"))
			if err != nil {
				return err
			}
			for _, wanted := range []string{"x-sum: 6", "unannounced: yes"} {
				if !strings.Contains(out, wanted) {
					return fmt.Errorf("no %q among: %s", wanted, out)
				}
			}
			return proxy.counts(1, requests, `code="200"`)
		},
	},
	{
		Group: "HTTP/2", Name: "h2load, 20,000 requests, 8 connections, 32 streams", Expect: "20,000 × 200, each counted",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			out, err := command(6*patience, "h2load", "-n20000", "-c8", "-m32", "-t1", proxy.url("/"))
			if err != nil {
				return err
			}
			if !strings.Contains(out, " 20000 2xx, 0 3xx, 0 4xx, 0 5xx") {
				return fmt.Errorf("h2load says: %s", out)
			}
			return proxy.counts(20_000, requests, `code="200"`)
		},
	},
	{
		Group: "HTTP/2", Name: "a stream that the client resets", Expect: "the others go on; counted as client_closed",
		Run: resetStream,
	},
	{
		Group: "HTTP/2", Name: "the app is gone", Expect: "502 with outrigger-reason: connect_refused",
		Run: func(t *Try) error {
			proxy, err := t.proxy(freePort(), "http")
			if err != nil {
				return err
			}
			out, err := command(patience, "nghttp", "-v", proxy.url("/"))
			if err == nil && !(strings.Contains(out, ":status: 502") && strings.Contains(out, "outrigger-reason: connect_refused")) {
				err = fmt.Errorf("nghttp says: %s", out)
			}
			return err
		},
	},
	{
		Group: "HTTP/2", Name: "SIGTERM", Expect: "GOAWAY, the request under way gets its answer, the proxy ends with 0",
		Run: func(t *Try) error { return drains(t, http2Client()) },
	},
	{Group: "HTTP/2", Name: "h2spec", Expect: "all of its cases pass, and the proxy counts requests", Run: func(t *Try) error {
		proxy, err := t.before("http")
		if err != nil {
			return err
		}
		return h2spec(proxy)
	}},
}

func http2Client() *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: transport, Timeout: patience}
}

func resetStream(t *Try) error {
	proxy, err := t.before("http")
	if err != nil {
		return err
	}
	client := http2Client()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "GET", proxy.url("/slow?for=5s"), nil)
	if err != nil {
		return err
	}
	var reset sync.WaitGroup
	reset.Go(func() {
		if answer, err := client.Do(request); err == nil {
			answer.Body.Close()
		}
	})
	time.Sleep(200 * time.Millisecond)
	other := make(chan error, 1)
	go func() {
		answer, err := client.Get(proxy.url("/slow?for=300ms"))
		other <- expectStatus(answer, err, 200)
	}()
	cancel()
	reset.Wait()
	if err := <-other; err != nil {
		return err
	}
	return proxy.counts(1, requests, `reason="client_closed"`)
}

// drains stops the proxy while a request is under way.
func drains(t *Try, client *http.Client) error {
	proxy, err := t.before("http")
	if err != nil {
		return err
	}
	answered := make(chan error, 1)
	go func() {
		answer, err := client.Get(proxy.url("/slow?for=600ms"))
		answered <- expectStatus(answer, err, 200)
	}()
	err = within(soon, func() error {
		active, err := proxy.metric("outrigger_http_active_requests")
		if err == nil && active != 1 {
			err = fmt.Errorf("outrigger_http_active_requests is %v with a request under way", active)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := proxy.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	if err := <-answered; err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- proxy.cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		return fmt.Errorf("the proxy still runs %v after its last request", patience)
	}
}

func h2spec(proxy *Proxy, args ...string) error {
	args = append(args, "-h", "127.0.0.1", "-p", strconv.Itoa(proxy.Port), "-o", "2")
	out, err := command(5*time.Minute, "h2spec", args...)
	total := ""
	var failed []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, " tests, ") {
			total = line
		}
		if strings.Contains(line, "×") {
			// It overwrites a line that said that the case runs.
			failed = append(failed, strings.TrimSpace(line[strings.LastIndex(line, "×")+len("×"):]))
		}
	}
	if total == "" {
		return fmt.Errorf("h2spec told no total: %w", err)
	}
	counted, countErr := proxy.metric(requests)
	if countErr != nil {
		return countErr
	}
	if !strings.HasSuffix(total, " 0 failed") || counted == 0 {
		return fmt.Errorf("%s; the proxy counted %v requests; failed: %s", total, counted, strings.Join(failed, "; "))
	}
	return nil
}

// numberBefore reads the number that stands before the first occurrence of the text.
func numberBefore(out, text string) (float64, error) {
	before, _, ok := strings.Cut(out, text)
	if !ok {
		return 0, fmt.Errorf("no %q in: %s", text, out)
	}
	fields := strings.Fields(before)
	return strconv.ParseFloat(fields[len(fields)-1], 64)
}

// readAll reads a body and closes it.
func readAll(answer *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}
