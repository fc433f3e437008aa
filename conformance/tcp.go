package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"
)

var tcpCases = []Case{
	{
		Group: "TCP", Name: "the server speaks first", Expect: "its greeting arrives though the client has sent nothing",
		Run: func(t *Try) error {
			proxy, err := t.rawApp("tcp", func(c Conn) {
				c.send("220 hello\r\n")
				line, _ := c.ReadString('\n')
				c.send("got " + line)
			})
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			greeting, err := client.ReadString('\n')
			if err := same(err, "greeting", greeting, "220 hello\r\n"); err != nil {
				return err
			}
			client.send("EHLO\n")
			return same(nil, "answer", client.rest(), "got EHLO\n")
		},
	},
	{
		Group: "TCP", Name: "half-close by the client", Expect: "the app sees the end and still answers",
		Run: func(t *Try) error {
			proxy, err := t.rawApp("tcp", func(c Conn) {
				all, _ := io.ReadAll(c)
				time.Sleep(100 * time.Millisecond)
				c.send(fmt.Sprintf("%d bytes", len(all)))
			})
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			client.send("12345")
			if err := client.Conn.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				return err
			}
			return same(nil, "answer", client.rest(), "5 bytes")
		},
	},
	{
		Group: "TCP", Name: "half-close by the app", Expect: "the client sees the end, and what it sends afterwards still arrives",
		Run: func(t *Try) error {
			arrived := make(chan string, 1)
			proxy, err := t.rawApp("tcp", func(c Conn) {
				c.send("done")
				_ = c.Conn.(*net.TCPConn).CloseWrite()
				all, _ := io.ReadAll(c)
				arrived <- string(all)
			})
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			if err := same(nil, "what the app sent", client.rest(), "done"); err != nil {
				return err
			}
			client.send("and more")
			client.Close()
			select {
			case got := <-arrived:
				return same(nil, "what the client sent", got, "and more")
			case <-time.After(patience):
				return fmt.Errorf("the app never saw the end")
			}
		},
	},
	{
		Group: "TCP", Name: "100 MB there and back at once", Expect: "byte for byte, and exact byte counters",
		Run: echoed,
	},
	{
		Group: "TCP", Name: "the app is gone", Expect: "a reset, at once, counted as connect_refused",
		Run: func(t *Try) error {
			proxy, err := t.proxy(freePort(), "tcp")
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			// The reset may be here before the connection is seen to be made.
			if err == nil {
				client.SetDeadline(time.Now().Add(patience))
				_, err = client.ReadByte()
			}
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("the connection stays open: %v", err)
			}
			return proxy.counts(1, "outrigger_tcp_connections_closed_total", `reason="connect_refused"`)
		},
	},
}

func echoed(t *Try) error {
	const length = 100_000_000
	proxy, err := t.rawApp("tcp", func(c Conn) { io.Copy(c.Conn, c) })
	if err != nil {
		return err
	}
	client, err := proxy.dial(t)
	if err != nil {
		return err
	}
	client.SetDeadline(time.Now().Add(6 * patience))
	sent, back := sha256.New(), sha256.New()
	failed := make(chan error, 1)
	go func() {
		source := io.LimitReader(rand.NewChaCha8([32]byte{1}), length)
		_, err := io.Copy(io.MultiWriter(client.Conn.Conn, sent), source)
		failed <- err
	}()
	if _, err := io.CopyN(back, client.Reader, length); err != nil {
		return err
	}
	if err := <-failed; err != nil {
		return err
	}
	if err := same(nil, "hash", fmt.Sprintf("%x", back.Sum(nil)), fmt.Sprintf("%x", sent.Sum(nil))); err != nil {
		return err
	}
	for _, family := range []string{"outrigger_tcp_read_bytes_total", "outrigger_tcp_written_bytes_total"} {
		if err := proxy.counts(length, family); err != nil {
			return err
		}
	}
	return nil
}
