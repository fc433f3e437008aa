package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

var faultCases = []Case{
	{
		Group: "Faults", Name: "the app is gone", Expect: "502 with outrigger-reason: connect_refused, the fastest of nine within 50 ms",
		Run: func(t *Try) error {
			proxy, err := t.proxy(freePort(), "http")
			if err != nil {
				return err
			}
			var took []time.Duration
			for range 9 {
				started := time.Now()
				answer, err := http.Get(proxy.url("/"))
				if err := expectReason(answer, err, http.StatusBadGateway, "connect_refused"); err != nil {
					return err
				}
				took = append(took, time.Since(started))
			}
			slices.Sort(took)
			if took[0] > 50*time.Millisecond {
				return fmt.Errorf("took %v", took[0])
			}
			return proxy.counts(9, requests, `code="502"`, `reason="connect_refused"`)
		},
	},
	{
		Group: "Faults", Name: "the app closes instead of an answer", Expect: "502 with outrigger-reason: reset; a POST is sent once only",
		Run: func(t *Try) error {
			var mu sync.Mutex
			seen := 0
			proxy, err := t.rawApp("http", func(c Conn) {
				if _, err := c.head(); err == nil {
					mu.Lock()
					seen++
					mu.Unlock()
				}
			})
			if err != nil {
				return err
			}
			answer, err := http.Post(proxy.url("/"), "text/plain", nil)
			if err := expectReason(answer, err, http.StatusBadGateway, "reset"); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			return same(nil, "requests at the app", strconv.Itoa(seen), "1")
		},
	},
	{
		Group: "Faults", Name: "the app's answer is no HTTP", Expect: "502 with outrigger-reason: protocol_error",
		Run: func(t *Try) error {
			proxy, err := t.rawApp("http", answering("SSH-2.0-OpenSSH_9.2\r\n\r\n"))
			if err != nil {
				return err
			}
			answer, err := http.Get(proxy.url("/"))
			return expectReason(answer, err, http.StatusBadGateway, "protocol_error")
		},
	},
	{
		Group: "Faults", Name: "an app that closes idle connections after 20 ms", Expect: "300 GETs sent around that moment: all 200",
		Run: staleConnections,
	},
	{
		Group: "Faults", Name: "an app that closes after each answer without saying so", Expect: "100 GETs on one client connection: all 200",
		Run: func(t *Try) error {
			proxy, err := t.rawApp("http", func(c Conn) {
				if _, err := c.head(); err == nil {
					c.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			})
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			for number := range 100 {
				client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n")
				answer, _, err := client.answer("GET")
				if err := expectStatus(answer, err, 200); err != nil {
					return fmt.Errorf("request %d: %w", number, err)
				}
			}
			return nil
		},
	},
	{
		Group: "Faults", Name: "the app is replaced under load", Expect: "a second process listens, the first is killed: of 8 clients at most the 8 requests in flight fail, each as reset",
		Run: replaced,
	},
	{
		Group: "Faults", Name: "a client that leaves", Expect: "the app sees it; counted as client_closed",
		Run: func(t *Try) error {
			left := make(chan error, 1)
			proxy, err := t.rawApp("http", func(c Conn) {
				if _, err := c.head(); err != nil {
					return
				}
				c.SetDeadline(time.Now().Add(patience))
				_, err := c.ReadByte()
				if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
					left <- fmt.Errorf("the app still waits")
					return
				}
				left <- nil
			})
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n")
			time.Sleep(100 * time.Millisecond)
			client.Close()
			if err := <-left; err != nil {
				return err
			}
			return proxy.counts(1, requests, `reason="client_closed"`)
		},
	},
	{
		Group: "Faults", Name: "SIGTERM", Expect: "the request under way gets its answer, the proxy ends with 0",
		Run: func(t *Try) error { return drains(t, &http.Client{Timeout: patience}) },
	},
}

func expectReason(answer *http.Response, err error, status int, reason string) error {
	if err := expectStatus(answer, err, status); err != nil {
		return err
	}
	return same(nil, "outrigger-reason", answer.Header.Get("outrigger-reason"), reason)
}

func staleConnections(t *Try) error {
	proxy, err := t.before("http-idle")
	if err != nil {
		return err
	}
	for number := range 300 {
		answer, err := http.Get(proxy.url("/"))
		if err != nil {
			return err
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != 200 {
			return fmt.Errorf("request %d: %s, %s", number, answer.Status, answer.Header.Get("outrigger-reason"))
		}
		time.Sleep(19*time.Millisecond + time.Duration(number%10)*300*time.Microsecond)
	}
	return nil
}

func replaced(t *Try) error {
	const clients = 8
	port := freePort()
	first, err := t.app("http", port)
	if err != nil {
		return err
	}
	proxy, err := t.proxy(port, "http")
	if err != nil {
		return err
	}
	var mu sync.Mutex
	answers := map[string]int{}
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range clients {
		load.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
			for {
				select {
				case <-stop:
					return
				default:
				}
				answer, err := client.Get(proxy.url("/slow?for=5ms"))
				what := fmt.Sprint(err)
				if err == nil {
					what = answer.Status + " " + answer.Header.Get("outrigger-reason")
					io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
				}
				mu.Lock()
				answers[what]++
				mu.Unlock()
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	_, err = t.app("http", port)
	if err == nil {
		time.Sleep(300 * time.Millisecond)
		first.kill()
		time.Sleep(700 * time.Millisecond)
	}
	close(stop)
	load.Wait()
	if err != nil {
		return err
	}
	good, reset := answers["200 OK "], answers["502 Bad Gateway reset"]
	delete(answers, "200 OK ")
	delete(answers, "502 Bad Gateway reset")
	if len(answers) > 0 || reset > clients || good < 20*clients {
		return fmt.Errorf("%d × 200, %d × reset, and %v", good, reset, answers)
	}
	return nil
}

// drip sends a byte of a head each 500 ms, until the proxy ends the connection or the time is over.
func drip(client *Client, total time.Duration) (ended bool) {
	closed := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(client.Reader).ReadString(0)
		close(closed)
	}()
	deadline := time.After(total)
	client.send("GET / HTTP/1.1\r\nHost: app\r\nX: ")
	for {
		select {
		case <-closed:
			return true
		case <-deadline:
			return false
		case <-time.After(500 * time.Millisecond):
			client.send("x")
		}
	}
}
