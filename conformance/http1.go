package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var http1Cases = []Case{
	{
		Group: "HTTP/1", Name: "curl, two requests on one connection, nginx behind", Expect: "both 200, one connection",
		Run: func(t *Try) error {
			proxy, err := t.beforeNginx()
			if err != nil {
				return err
			}
			out, err := command(patience, "curl", "-sS", "-w", "%{http_code} %{num_connects};", "-o", "/dev/null", "-o", "/dev/null",
				proxy.url("/"), proxy.url("/"))
			return same(err, "answers and new connections", out, "200 1;200 0;")
		},
	},
	{
		Group: "HTTP/1", Name: "curl --http1.0, nginx behind", Expect: "200, and the connection ends with the answer",
		Run: func(t *Try) error {
			proxy, err := t.beforeNginx()
			if err != nil {
				return err
			}
			out, err := command(patience, "curl", "-sS", "--http1.0", "-w", "%{http_code} %{num_connects};", "-o", "/dev/null", "-o", "/dev/null",
				proxy.url("/"), proxy.url("/"))
			return same(err, "answers and new connections", out, "200 1;200 1;")
		},
	},
	{
		Group: "HTTP/1", Name: "an app that speaks HTTP/1.0 (Python's http.server)", Expect: "its file, whole, twice on one client connection",
		Run: func(t *Try) error {
			dir, err := t.work()
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte(strings.Repeat("x", 100_000)), 0o644); err != nil {
				return err
			}
			python, err := tool("python3")
			if err != nil {
				return err
			}
			port := freePort()
			if _, err := t.start(nil, python, "-m", "http.server", fmt.Sprint(port), "--bind", "127.0.0.1", "--directory", dir); err != nil {
				return err
			}
			if err := waitFor(port); err != nil {
				return err
			}
			proxy, err := t.proxy(port, "http")
			if err != nil {
				return err
			}
			out, err := command(patience, "curl", "-sS", "-w", "%{http_code} %{size_download};", "-o", "/dev/null", "-o", "/dev/null",
				proxy.url("/file"), proxy.url("/file"))
			return same(err, "answers", out, "200 100000;200 100000;")
		},
	},
	{
		Group: "HTTP/1", Name: "pipelining", Expect: "ten requests in one write, ten answers in their order",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			var sent strings.Builder
			for i := range 10 {
				fmt.Fprintf(&sent, "POST /echo HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\n%02d", i)
			}
			client.send(sent.String())
			for i := range 10 {
				_, body, err := client.answer("POST")
				if err := same(err, "answer", body, fmt.Sprintf("%02d", i)); err != nil {
					return err
				}
			}
			return proxy.counts(10, requests, `method="POST"`, `code="200"`)
		},
	},
	{
		Group: "HTTP/1", Name: "HEAD", Expect: "Content-Length of the GET, no body, and the connection goes on",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			client.send("HEAD /zeros?length=12345 HTTP/1.1\r\nHost: app\r\n\r\nGET / HTTP/1.1\r\nHost: app\r\n\r\n")
			answer, _, err := client.answer("HEAD")
			if err != nil {
				return err
			}
			if answer.ContentLength != 12345 {
				return fmt.Errorf("Content-Length is %d", answer.ContentLength)
			}
			_, body, err := client.answer("GET")
			return same(err, "next answer", body, "hello\n")
		},
	},
	{
		Group: "HTTP/1", Name: "empty reason phrase, and none at all", Expect: "both are answers; the status line goes on as it came",
		Run: func(t *Try) error {
			for _, line := range []string{"HTTP/1.1 200 \r\n", "HTTP/1.1 200\r\n"} {
				proxy, err := t.rawApp("http", answering(line+"Content-Length: 2\r\n\r\nok"))
				if err != nil {
					return err
				}
				client, err := proxy.dial(t)
				if err != nil {
					return err
				}
				client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n")
				head, err := client.head()
				if err != nil {
					return err
				}
				// RFC 9112 section 4 has the space even where no phrase follows, so adding it is fine.
				if first := strings.SplitN(head, "\r\n", 2)[0]; strings.TrimRight(first, " ") != "HTTP/1.1 200" {
					return fmt.Errorf("%q arrived as %q", line, first)
				}
			}
			return nil
		},
	},
	{
		Group: "HTTP/1", Name: "a target of 32,000 bytes", Expect: "the app sees it whole",
		Run: func(t *Try) error {
			target := "/" + strings.Repeat("a", 31_999)
			heads := make(chan string, 1)
			proxy, err := t.rawApp("http", recording(heads, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
			if err != nil {
				return err
			}
			_, err = command(patience, "curl", "-sSf", proxy.url(target))
			return same(err, "target", strings.Fields(<-heads + " ? ?")[1], target)
		},
	},
	{
		Group: "HTTP/1", Name: "targets that RFC 3986 forbids and browsers send", Expect: "the app sees them as they were sent",
		Run: func(t *Try) error {
			heads := make(chan string, 1)
			proxy, err := t.rawApp("http", recording(heads, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
			if err != nil {
				return err
			}
			for _, target := range []string{`/?q="a"`, "/<b>", "/`", "/a|b^c", "/{id}", "/%zz", "/\xc3\xa4"} {
				client, err := proxy.dial(t)
				if err != nil {
					return err
				}
				client.send("GET " + target + " HTTP/1.1\r\nHost: app\r\n\r\n")
				answer, _, err := client.answer("GET")
				if err != nil {
					return err
				}
				if answer.StatusCode != 200 {
					return fmt.Errorf("%q is answered with %s", target, answer.Status)
				}
				if got := strings.Fields(<-heads)[1]; got != target {
					return fmt.Errorf("%q arrived as %q", target, got)
				}
			}
			return nil
		},
	},
	{
		Group: "HTTP/1", Name: "names and order of headers", Expect: "both directions: letter by letter and in order, nothing added",
		Run: headersKept,
	},
	{
		Group: "HTTP/1", Name: "CONNECT", Expect: "405, the app is not asked",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			client.send("CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n")
			answer, _, err := client.answer("GET")
			if err != nil {
				return err
			}
			return same(nil, "answer", fmt.Sprintf("%d %s", answer.StatusCode, answer.Header.Get("outrigger-reason")), "405 method_refused")
		},
	},
	{
		Group: "HTTP/1", Name: "wrk, 64 connections for 2 s, nginx behind", Expect: "no error, every answer counted",
		Run: func(t *Try) error {
			proxy, err := t.beforeNginx()
			if err != nil {
				return err
			}
			out, err := command(patience, "wrk", "-t1", "-c64", "-d2s", proxy.url("/"))
			if err != nil {
				return err
			}
			if strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") {
				return fmt.Errorf("wrk says: %s", out)
			}
			done, err := numberBefore(out, " requests in")
			if err != nil {
				return err
			}
			// Those under way when wrk stops are answered to nobody.
			return within(soon, func() error {
				counted, err := proxy.metric(requests, `code="200"`)
				if err == nil && (counted < done || counted > done+64) {
					err = fmt.Errorf("wrk got %v answers, %v are counted", done, counted)
				}
				return err
			})
		},
	},
}

func headersKept(t *Try) error {
	heads := make(chan string, 1)
	answer := "HTTP/1.1 200 Fine\r\nX-odd-CASE: 1\r\nset-cookie: a\r\nSet-Cookie: b\r\nZulu: z\r\nalpha: a\r\nContent-Length: 2\r\n\r\n"
	proxy, err := t.rawApp("http", recording(heads, answer+"ok"))
	if err != nil {
		return err
	}
	client, err := proxy.dial(t)
	if err != nil {
		return err
	}
	request := "GET /a?b HTTP/1.1\r\nhOST: app\r\nZulu: z\r\nX-odd-CASE: 1\r\naccept: a\r\nX-Two: 1\r\nX-Two: 2\r\n" +
		"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
	client.send(request)
	got, err := client.head()
	if err := same(err, "answer's head", got, answer); err != nil {
		return err
	}
	return same(nil, "request's head", <-heads, request)
}

// recording is an app that hands out each head that it got.
func recording(heads chan<- string, answer string) func(Conn) {
	return func(c Conn) {
		for {
			head, err := c.head()
			if err != nil {
				return
			}
			select {
			case heads <- head:
			case <-time.After(patience):
				return
			}
			c.send(answer)
		}
	}
}

// beforeNginx starts nginx, answering HTTP/1 with a few bytes, and a proxy before it.
func (t *Try) beforeNginx() (*Proxy, error) {
	dir, err := t.work()
	if err != nil {
		return nil, err
	}
	nginx, err := tool("nginx")
	if err != nil {
		return nil, err
	}
	port := freePort()
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/log; events { worker_connections 1024; }
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
server { listen 127.0.0.1:%[2]d; keepalive_requests 10000000; location / { return 200 "hello from nginx\n"; } } }`, dir, port)
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	if _, err := t.start(nil, nginx, "-c", config); err != nil {
		return nil, err
	}
	if err := waitFor(port); err != nil {
		return nil, err
	}
	return t.proxy(port, "http")
}

// same is an error where something failed or is not what it should be.
func same(err error, what, got, want string) error {
	if err == nil && got != want {
		err = fmt.Errorf("%s: %q, not %q", what, got, want)
	}
	return err
}

// expectStatus asks by net/http and compares the status.
func expectStatus(answer *http.Response, err error, want int) error {
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != want {
		return fmt.Errorf("answered with %s, not %d", answer.Status, want)
	}
	return nil
}
