package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"github.com/coder/websocket"
)

var upgradeCases = []Case{
	{
		Group: "WebSocket", Name: "github.com/coder/websocket on both sides", Expect: "subprotocol, 100 messages, one of 1 MiB, the close code: all there; counted with its 101",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			socket, _, err := websocket.Dial(ctx, "ws://"+proxy.addr()+"/websocket", &websocket.DialOptions{Subprotocols: []string{"echo"}})
			if err != nil {
				return err
			}
			defer socket.CloseNow()
			socket.SetReadLimit(-1)
			if err := same(nil, "subprotocol", socket.Subprotocol(), "echo"); err != nil {
				return err
			}
			if err := exchange(ctx, socket); err != nil {
				return err
			}
			if err := proxy.counts(1, "outrigger_tcp_connections_opened_total"); err != nil {
				return err
			}
			if err := socket.Write(ctx, websocket.MessageText, []byte("bye")); err != nil {
				return err
			}
			_, _, err = socket.Read(ctx)
			if code := websocket.CloseStatus(err); code != websocket.StatusPolicyViolation {
				return fmt.Errorf("closed with %v: %v", code, err)
			}
			return proxy.counts(1, requests, `code="101"`)
		},
	},
	{
		Group: "WebSocket", Name: "an upgrade that the app refuses", Expect: "its 426 and body reach the client, and the connection goes on",
		Run: func(t *Try) error {
			proxy, err := t.before("http")
			if err != nil {
				return err
			}
			client, err := proxy.dial(t)
			if err != nil {
				return err
			}
			client.send("GET /websocket HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: something\r\n\r\nGET / HTTP/1.1\r\nHost: app\r\n\r\n")
			answer, _, err := client.answer("GET")
			if err := expectStatus(answer, err, http.StatusUpgradeRequired); err != nil {
				return err
			}
			_, body, err := client.answer("GET")
			return same(err, "next answer", body, "hello\n")
		},
	},
	{
		Group: "WebSocket", Name: "bytes right behind the 101 and behind the request", Expect: "none is lost or taken for HTTP",
		Run: func(t *Try) error {
			proxy, err := t.rawApp("http", func(c Conn) {
				if _, err := c.head(); err != nil {
					return
				}
				c.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\nfirst")
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
			client.send("GET / HTTP/1.1\r\nHost: app\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\nearly\n")
			if _, err := client.head(); err != nil {
				return err
			}
			return same(nil, "what came", client.rest(), "firstgot early\n")
		},
	},
}

func exchange(ctx context.Context, socket *websocket.Conn) error {
	messages := [][]byte{bytes.Repeat([]byte("x"), 1<<20)}
	for i := range 100 {
		messages = append(messages, fmt.Appendf(nil, "message %d", i))
	}
	for _, message := range messages {
		if err := socket.Write(ctx, websocket.MessageText, message); err != nil {
			return err
		}
		_, back, err := socket.Read(ctx)
		if err != nil {
			return err
		}
		if !bytes.Equal(back, message) {
			return fmt.Errorf("%d bytes came back for %d, or others", len(back), len(message))
		}
	}
	return nil
}
