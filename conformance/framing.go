package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var framingCases = []Case{
	{
		Group: "Bodies", Name: "curl, a body of unknown length (chunked)", Expect: "comes back whole",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			dir, err := t.work()
			if err != nil {
				return err
			}
			body := strings.Repeat("0123456789", 30_000)
			file := filepath.Join(dir, "body")
			if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
				return err
			}
			out, err := command(patience, "curl", "-sSf", "-X", "POST", "-H", "Transfer-Encoding: chunked", "--data-binary", "@"+file, proxy.url("/echo"))
			if err == nil && out != body {
				err = fmt.Errorf("%d of %d bytes came back, or others", len(out), len(body))
			}
			return err
		},
	},
	{
		Group: "Bodies", Name: "trailers, both ways", Expect: "the app gets the request's, the client the answer's, announced or not",
		Run: trailers,
	},
	{
		Group: "Bodies", Name: "trailers that are not announced", Expect: "go on as well: Trailer is optional (RFC 9110 section 6.6.2)",
		Run: func(t *Try) error {
			proxy, err := t.rawApp("http", answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"))
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n")
			answer, _, err := client.answer("GET")
			if err != nil {
				return err
			}
			return same(nil, "trailer", answer.Trailer.Get("X-Sum"), "1")
		},
	},
	{
		Group: "Bodies", Name: "chunk extensions, and sizes with leading zeros", Expect: "the body is understood",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			client.send("POST /echo HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n0003;a=b;c=\"d\"\r\nabc\r\n00\r\n\r\n")
			_, body, err := client.answer("POST")
			return same(err, "echo", body, "abc")
		},
	},
	{
		Group: "Bodies", Name: "an answer that ends with its connection", Expect: "whole at the client, which can tell that it is",
		Run: func(t *Try) error {
			proxy, err := t.rawApp("http", func(c Conn) {
				if _, err := c.head(); err == nil {
					c.send("HTTP/1.1 200 OK\r\n\r\nall of it")
				}
			})
			if err != nil {
				return err
			}
			out, err := command(patience, "curl", "-sSf", proxy.url("/"))
			return same(err, "body", out, "all of it")
		},
	},
	{
		Group: "Bodies", Name: "an answer cut short", Expect: "the client sees that it is (curl exits 18), counted as reset",
		Run: func(t *Try) error {
			proxy, err := t.rawApp("http", func(c Conn) {
				if _, err := c.head(); err == nil {
					c.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all of it")
				}
			})
			if err != nil {
				return err
			}
			_, err = command(patience, "curl", "-sSf", proxy.url("/"))
			if err == nil || !strings.Contains(err.Error(), "exit status 18") {
				return fmt.Errorf("curl ended with %v", err)
			}
			return proxy.counts(1, requests, `reason="reset"`)
		},
	},
	{
		Group: "Bodies", Name: "Expect: 100-continue, curl", Expect: "the app's 100 arrives, so curl does not wait its second, and the body comes back",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			out, err := command(patience, "curl", "-sSf", "-v", "--expect100-timeout", "8", "-H", "Expect: 100-continue", "--data-binary", strings.Repeat("x", 2000), proxy.url("/echo"))
			if err == nil && !strings.Contains(out, "< HTTP/1.1 100") {
				err = fmt.Errorf("no 100 among: %s", out)
			}
			return err
		},
	},
	{
		Group: "Bodies", Name: "Expect: 100-continue that the app refuses", Expect: "417 before a byte of the body is sent",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			client.send("POST /reject HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
			answer, _, err := client.answer("POST")
			return expectStatus(answer, err, http.StatusExpectationFailed)
		},
	},
	{
		Group: "Bodies", Name: "103 Early Hints", Expect: "reach the client before the answer",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			hints := 0
			trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
				if code == http.StatusEarlyHints {
					hints++
				}
				return nil
			}}
			request, err := http.NewRequest("GET", proxy.url("/early"), nil)
			if err != nil {
				return err
			}
			answer, err := http.DefaultClient.Do(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
			if err := expectStatus(answer, err, 200); err != nil {
				return err
			}
			return same(nil, "hints", fmt.Sprint(hints), "1")
		},
	},
	{
		Group: "Bodies", Name: "an answer before the request's body has ended", Expect: "reaches the client at once",
		Run: func(t *Try) error {
			proxy, err := t.rawApp("http", func(c Conn) {
				if _, err := c.head(); err == nil {
					c.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
					time.Sleep(time.Second)
				}
			})
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 1000000\r\n\r\nsome")
			answer, _, err := client.answer("POST")
			return expectStatus(answer, err, http.StatusRequestEntityTooLarge)
		},
	},
}

func trailers(t *Try) error {
	proxy, err := t.before("http")
	if err != nil {
		return err
	}
	client, err := proxy.dial(t)
	if err != nil {
		return err
	}
	client.send("POST /echo HTTP/1.1\r\nHost: app\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n")
	answer, body, err := client.answer("POST")
	if err := same(err, "echo", body, "abc"); err != nil {
		return err
	}
	if err := same(nil, "announced trailer", answer.Trailer.Get("X-Sum"), "6"); err != nil {
		return err
	}
	return same(nil, "unannounced trailer", answer.Trailer.Get("Unannounced"), "yes")
}

// post sends so many zeros and gives the answer's body.
func post(url string, length int64) (string, error) {
	request, err := http.NewRequest("POST", url, io.LimitReader(zeros{}, length))
	if err != nil {
		return "", err
	}
	request.ContentLength = length
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}
