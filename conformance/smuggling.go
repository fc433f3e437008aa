package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

const smuggled = "GET /smuggled HTTP/1.1\r\nHost: app\r\n\r\n"

// Requests on whose end two parsers may differ, or whose meaning they may. RFC 9112 sections 2.2, 3.2, 5 and 6.
var ambiguous = []struct{ name, request string }{
	{"Content-Length and Transfer-Encoding", "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled},
	{"Transfer-Encoding and Content-Length", "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + smuggled},
	{"two different Content-Length", "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\nContent-Length: 38\r\n\r\n" + smuggled},
	{"Content-Length: 0, 38", "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0, 38\r\n\r\n" + smuggled},
	{"Content-Length: +3", "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: +3\r\n\r\nabc" + smuggled},
	{"Content-Length: -1", "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: -1\r\n\r\n" + smuggled},
	{"Content-Length: 0x3", "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0x3\r\n\r\nabc" + smuggled},
	{"Content-Length: 1 2", "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 1 2\r\n\r\na" + smuggled},
	{"Content-Length beyond 64 bits", "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 18446744073709551617\r\n\r\na" + smuggled},
	{"empty Content-Length", "POST / HTTP/1.1\r\nHost: app\r\nContent-Length:\r\n\r\n" + smuggled},
	{"space before the colon", "POST / HTTP/1.1\r\nHost: app\r\nContent-Length : 38\r\n\r\n" + smuggled},
	{"Transfer-Encoding, space before the colon", "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled},
	{"Transfer-Encoding: xchunked", "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled},
	{"Transfer-Encoding: chunked, identity", "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + smuggled},
	{"Transfer-Encoding: chunked, chunked", "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + smuggled},
	{"two Transfer-Encoding, the last not chunked", "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled},
	{"Transfer-Encoding with a vertical tab", "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + smuggled},
	{"Transfer-Encoding with a NUL", "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n" + smuggled},
	{"Transfer-Encoding in HTTP/1.0", "POST / HTTP/1.0\r\nHost: app\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n" + smuggled},
	{"obs-fold", "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + smuggled},
	{"obs-fold in the first header", "POST / HTTP/1.1\r\n X: y\r\nHost: app\r\n\r\n" + smuggled},
	{"bare CR in a value", "GET / HTTP/1.1\r\nHost: app\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n" + smuggled},
	{"NUL in a value", "GET / HTTP/1.1\r\nHost: app\r\nX: a\x00b\r\n\r\n" + smuggled},
	{"NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: app\r\n\r\n" + smuggled},
	{"header without a colon", "GET / HTTP/1.1\r\nHost: app\r\nX\r\n\r\n" + smuggled},
	{"header without a name", "GET / HTTP/1.1\r\nHost: app\r\n: x\r\n\r\n" + smuggled},
	{"no Host", "GET / HTTP/1.1\r\n\r\n" + smuggled},
	{"two Host", "GET / HTTP/1.1\r\nHost: app\r\nHost: other\r\n\r\n" + smuggled},
	{"Host of two values", "GET / HTTP/1.1\r\nHost: app, other\r\n\r\n" + smuggled},
	{"the version in lower case", "GET / http/1.1\r\nHost: app\r\n\r\n" + smuggled},
	{"two spaces in the request line", "GET  / HTTP/1.1\r\nHost: app\r\n\r\n" + smuggled},
	{"space in the target", "GET /a b HTTP/1.1\r\nHost: app\r\n\r\n" + smuggled},
	{"HTTP/0.9", "GET /\r\n" + smuggled},
}

// Bodies in chunks that are wrong: the head may have gone on by then, so what counts is that nothing after them does, and
// that the client is not told of success.
var badChunks = []struct{ name, chunks string }{
	{"chunk size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"},
	{"chunk size with a sign", "+3\r\nabc\r\n0\r\n\r\n"},
	{"chunk size with a space before it", " 3\r\nabc\r\n0\r\n\r\n"},
	{"chunk size with an underscore", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"},
	{"chunk size beyond 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"},
	{"empty chunk size", "\r\nabc\r\n0\r\n\r\n"},
	{"chunk longer than its size", "2\r\nabc\r\n0\r\n\r\n"},
	{"chunk that ends in a bare LF", "3\r\nabc\n0\r\n\r\n"},
	{"chunk size that ends in a bare LF", "3\nabc\r\n0\r\n\r\n"},
	{"chunk extension with a bare LF", "3;a\nb\r\nabc\r\n0\r\n\r\n"},
	{"bare CR after a chunk size", "3\rabc\r\n0\r\n\r\n"},
	{"trailer without a colon", "3\r\nabc\r\n0\r\nX\r\n\r\n"},
}

// Failures of these that are understood.
var known = map[string]string{
	"no Host":            "RFC 9112 section 3.2 wants a 400; the proxy leaves the answer to the app",
	"Host of two values": "RFC 9112 section 3.2 wants a 400; the proxy does not look into the value and leaves the answer to the app",
}

func smugglingCases() []Case {
	var cases []Case
	for _, one := range ambiguous {
		cases = append(cases, Case{
			Group: "Request smuggling", Name: one.name, Expect: "400, counted; the connection ends and nothing reaches the app",
			Known: known[one.name],
			Run:   func(t *Try) error { return refused(t, one.request, false) },
		})
	}
	for _, one := range badChunks {
		request := "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n" + one.chunks + smuggled
		cases = append(cases, Case{
			Group: "Request smuggling", Name: one.name, Expect: "400 or the connection ends, counted; what follows does not reach the app",
			Run: func(t *Try) error { return refused(t, request, true) },
		})
	}
	return cases
}

// refused sends a request that must not go on. Of a bad body the head may.
func refused(t *Try, request string, headMayPass bool) error {
	var mu sync.Mutex
	var seen strings.Builder
	proxy, err := t.rawApp("http", func(c Conn) {
		// A patient app: it reads whatever comes and answers after the first head.
		answered := false
		bytes := make([]byte, 4096)
		for {
			length, err := c.Read(bytes)
			mu.Lock()
			seen.Write(bytes[:length])
			complete := strings.Contains(seen.String(), "0\r\n\r\n") || !headMayPass && strings.Contains(seen.String(), "\r\n\r\n")
			mu.Unlock()
			if complete && !answered {
				answered = true
				c.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
			if err != nil {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	client, err := proxy.dial(t)
	if err != nil {
		return err
	}
	client.SetDeadline(time.Now().Add(3 * time.Second))
	client.send(request)
	answer := client.rest()
	mu.Lock()
	passed := seen.String()
	mu.Unlock()
	switch {
	case strings.Contains(passed, "/smuggled"):
		return fmt.Errorf("the app got %q", passed)
	case !headMayPass && passed != "":
		return fmt.Errorf("the app got %q", passed)
	case strings.Contains(answer, " 200 "):
		return fmt.Errorf("answered with %q", answer)
	case !headMayPass && !strings.HasPrefix(answer, "HTTP/1.1 400 "):
		return fmt.Errorf("answered with %q", answer)
	}
	return proxy.counts(1, requests, `reason="bad_request"`)
}
