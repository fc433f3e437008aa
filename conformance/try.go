package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	patience = time.Minute
	token    = "opensesame"
)

var portNumber = regexp.MustCompile(`(127\.0\.0\.1|\[::1\]):\d+`)

// Try is one run of a case: what it started ends with it.
type Try struct {
	mu   sync.Mutex
	ends []func()
	dir  string
}

func (t *Try) cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ends = append(t.ends, f)
}

func (t *Try) end() {
	for i := len(t.ends) - 1; i >= 0; i-- {
		t.ends[i]()
	}
}

// work is a directory of the try's own.
func (t *Try) work() (string, error) {
	if t.dir != "" {
		return t.dir, nil
	}
	dir, err := os.MkdirTemp("", "conformance")
	if err == nil {
		t.dir = dir
		t.cleanup(func() { os.RemoveAll(dir) })
	}
	return dir, err
}

// Process of a proxy or of an app.
type Process struct {
	cmd  *exec.Cmd
	said *buffer
}

type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func (t *Try) start(env []string, program string, args ...string) (*Process, error) {
	process := &Process{cmd: exec.Command(program, args...), said: &buffer{}}
	process.cmd.Env = append(os.Environ(), env...)
	process.cmd.Stdout, process.cmd.Stderr = process.said, process.said
	// The kernel ends it when this program ends. It goes by the thread that started it, so that has to stay.
	process.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	starts <- func() error { return process.cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	t.cleanup(func() { process.kill() })
	return process, nil
}

var starts, started = make(chan func() error), make(chan error)

func init() {
	go func() {
		runtime.LockOSThread()
		for start := range starts {
			started <- start()
		}
	}()
}

func (p *Process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// resident reads VmRSS or VmHWM, in bytes.
func (p *Process) resident(field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("no %s of a process that has ended", field)
}

// Proxy is a running proxy with one port.
type Proxy struct {
	*Process
	Port, Admin int
}

func (p *Proxy) addr() string { return fmt.Sprintf("127.0.0.1:%d", p.Port) }
func (p *Proxy) url(path string) string {
	return "http://" + p.addr() + path
}

// proxy starts one before the app's port, which it calls `web`.
func (t *Try) proxy(app int, protocol string) (*Proxy, error) {
	return t.proxyWith(map[string]any{"target": app, "protocol": protocol})
}

// proxyWith starts one with these fields of its port and these further arguments.
func (t *Try) proxyWith(inbound map[string]any, args ...string) (*Proxy, error) {
	dir, err := t.work()
	if err != nil {
		return nil, err
	}
	proxy := &Proxy{Port: freePort(), Admin: freePort()}
	inbound["name"], inbound["listen"] = "web", proxy.Port
	config, _ := json.Marshal(map[string]any{
		"version": 1, "profile": "conformance/default", "token": token,
		"inbound": []any{inbound},
	})
	file := filepath.Join(dir, fmt.Sprintf("config-%d.json", proxy.Port))
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	args = append(args, "--config", file, "--admin-port", strconv.Itoa(proxy.Admin), "--app-address", "127.0.0.1", "--log-format", "text")
	proxy.Process, err = t.start(nil, *proxyProgram, args...)
	if err != nil {
		return nil, err
	}
	ready := fmt.Sprintf("http://127.0.0.1:%d/ready", proxy.Admin)
	err = eventually(func() error {
		answer, err := http.Get(ready)
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode != 200 {
			return fmt.Errorf("/ready answers %s", answer.Status)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the proxy does not become ready: %w; it says %s", err, proxy.said)
	}
	return proxy, nil
}

// app starts one of runApp's kinds in a process of its own, listening on the port.
func (t *Try) app(kind string, port int) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	process, err := t.start(nil, self, "app", kind, strconv.Itoa(port))
	if err != nil {
		return nil, err
	}
	return process, waitFor(port)
}

// before starts an app of that kind and a proxy before it.
func (t *Try) before(kind string) (*Proxy, error) {
	port := freePort()
	if _, err := t.app(kind, port); err != nil {
		return nil, err
	}
	return t.proxy(port, "http")
}

func freePort() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func waitFor(port int) error {
	return eventually(func() error {
		stream, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err == nil {
			stream.Close()
		}
		return err
	})
}

// eventually repeats until there is no error any more, or patience ends.
func eventually(condition func() error) error { return within(patience, condition) }

// soon is how long a request may take to be counted after its client has the answer.
const soon = 30 * time.Second

func within(limit time.Duration, condition func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := condition()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// command runs a client to its end; its output comes also where it fails.
func command(timeout time.Duration, program string, args ...string) (string, error) {
	path, err := tool(program)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		tail := strings.TrimSpace(string(out))
		if len(tail) > 600 {
			tail = "… " + tail[len(tail)-600:]
		}
		return string(out), fmt.Errorf("%s: %w: %s", program, err, tail)
	}
	return string(out), nil
}

func read(url string, header ...string) (string, error) {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return "", err
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != 200 {
		err = fmt.Errorf("%s: %s", url, answer.Status)
	}
	return string(body), err
}
