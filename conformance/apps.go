package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop"
	interoppb "google.golang.org/grpc/interop/grpc_testing"
)

// runApp serves until it is killed.
func runApp(kind string, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: conformance app http|http-idle|grpc PORT")
	}
	listener, err := listenShared(args[0])
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler(), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	switch kind {
	case "http":
	case "http-idle":
		server.IdleTimeout = 20 * time.Millisecond
	case "grpc":
		return grpcServer().Serve(listener)
	default:
		return fmt.Errorf("no app of kind %q", kind)
	}
	return server.Serve(listener)
}

// listenShared lets the next process listen on the same port before this one ends, as a rolling restart on one host does.
func listenShared(port string) (net.Listener, error) {
	const soReusePort = 15 // SO_REUSEPORT of Linux, which package syscall leaves out
	config := net.ListenConfig{Control: func(_, _ string, socket syscall.RawConn) error {
		var err error
		controlled := socket.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1)
		})
		return errors.Join(controlled, err)
	}}
	return config.Listen(context.Background(), "tcp", "127.0.0.1:"+port)
}

func grpcServer() *grpc.Server {
	server := grpc.NewServer()
	interoppb.RegisterTestServiceServer(server, interop.NewTestServer())
	healthy := health.NewServer()
	healthpb.RegisterHealthServer(server, healthy)
	// A Watch sees a change every 100 ms.
	go func() {
		states := []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING}
		for i := 0; ; i++ {
			healthy.SetServingStatus("changing", states[i%2])
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return server
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello\n") })
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/websocket", echoMessages)
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.WriteHeader(code)
	})
	mux.HandleFunc("/reject", func(w http.ResponseWriter, _ *http.Request) {
		// Nothing of the body is read, so net/http sends no 100.
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusExpectationFailed)
	})
	mux.HandleFunc("/early", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "hello\n")
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		wait, _ := time.ParseDuration(r.FormValue("for"))
		time.Sleep(wait)
		io.WriteString(w, "hello\n")
	})
	mux.HandleFunc("/zeros", func(w http.ResponseWriter, r *http.Request) {
		length, _ := strconv.ParseInt(r.FormValue("length"), 10, 64)
		w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
		io.CopyN(w, zeros{}, length)
	})
	mux.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) {
		wait, _ := time.ParseDuration(r.FormValue("after"))
		time.Sleep(wait)
		length, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, length)
	})
	return mux
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// echo sends the body back, and the trailers: what was announced as announced, and one that is not.
func echo(w http.ResponseWriter, r *http.Request) {
	for name := range r.Trailer {
		w.Header().Add("Trailer", name)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	// Else net/http stops reading an HTTP/1 body once the answer has begun.
	_ = http.NewResponseController(w).EnableFullDuplex()
	io.Copy(w, r.Body)
	for name, values := range r.Trailer {
		w.Header()[name] = values
	}
	if r.Trailer != nil {
		w.Header().Set(http.TrailerPrefix+"Unannounced", "yes")
	}
}

func echoMessages(w http.ResponseWriter, r *http.Request) {
	socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
	if err != nil {
		return
	}
	defer socket.CloseNow()
	socket.SetReadLimit(-1)
	for {
		kind, message, err := socket.Read(r.Context())
		if err != nil {
			return
		}
		if string(message) == "bye" {
			socket.Close(websocket.StatusPolicyViolation, "as you wish")
			return
		}
		if socket.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

// Conn is a connection that an app in this process has accepted.
type Conn struct {
	net.Conn
	*bufio.Reader
}

func (c Conn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// head reads up to the empty line that ends a head, and gives the head as it came.
func (c Conn) head() (string, error) {
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := c.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			return head.String(), err
		}
	}
	return head.String(), nil
}

// send writes; what became of it shows in what comes back.
func (c Conn) send(text string) { _, _ = io.WriteString(c.Conn, text) }

// rawApp serves each connection by the function, in this process; a proxy of the protocol stands before it.
func (t *Try) rawApp(protocol string, serve func(Conn)) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t.cleanup(func() { listener.Close() })
	go func() {
		for {
			stream, err := listener.Accept()
			if err != nil {
				return
			}
			t.cleanup(func() { stream.Close() })
			go func() {
				defer stream.Close()
				serve(Conn{stream, bufio.NewReader(stream)})
			}()
		}
	}()
	return t.proxy(listener.Addr().(*net.TCPAddr).Port, protocol)
}

// answering is an app that gives the same bytes to every request without a body.
func answering(answer string) func(Conn) {
	return func(c Conn) {
		for {
			if _, err := c.head(); err != nil {
				return
			}
			c.send(answer)
		}
	}
}

// Client sends bytes as given.
type Client struct {
	Conn
	text *textproto.Reader
}

func (p *Proxy) dial(t *Try) (*Client, error) {
	stream, err := net.DialTimeout("tcp", p.addr(), patience)
	if err != nil {
		return nil, err
	}
	t.cleanup(func() { stream.Close() })
	stream.SetDeadline(time.Now().Add(2 * patience))
	reader := bufio.NewReader(stream)
	return &Client{Conn{stream, reader}, textproto.NewReader(reader)}, nil
}

// answer reads one answer to a request of this method, its body included.
func (c *Client) answer(method string) (*http.Response, string, error) {
	answer, err := http.ReadResponse(c.Reader, &http.Request{Method: method})
	if err != nil {
		return nil, "", fmt.Errorf("no answer: %w", err)
	}
	body, err := io.ReadAll(answer.Body)
	return answer, string(body), err
}

// rest reads until the other side closes; a reset is as good an end.
func (c *Client) rest() string {
	rest, _ := io.ReadAll(c.Reader)
	return string(rest)
}
