package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const grpcRequests = "outrigger_grpc_requests_total"

var grpcCases = append([]Case{
	{
		Group: "gRPC", Name: "health, Check", Expect: "SERVING; an unknown service is NOT_FOUND; both counted by grpc_code",
		Run: func(t *Try) error {
			proxy, client, err := t.grpc()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			answer, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
			if err := same(err, "status", answer.GetStatus().String(), "SERVING"); err != nil {
				return err
			}
			_, err = client.Check(ctx, &healthpb.HealthCheckRequest{Service: "unknown"})
			if err := same(nil, "code", status.Code(err).String(), codes.NotFound.String()); err != nil {
				return err
			}
			if err := proxy.counts(1, grpcRequests, `grpc_code="OK"`); err != nil {
				return err
			}
			return proxy.counts(1, grpcRequests, `grpc_code="NOT_FOUND"`)
		},
	},
	{
		Group: "gRPC", Name: "health, Watch", Expect: "a stream of changes, each as it comes; its cancellation reaches the app",
		Run: func(t *Try) error {
			proxy, client, err := t.grpc()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: "changing"})
			if err != nil {
				return err
			}
			for range 5 {
				if _, err := watch.Recv(); err != nil {
					return err
				}
			}
			cancel()
			return proxy.counts(1, requests, `reason="client_closed"`)
		},
	},
	{
		Group: "gRPC", Name: "a deadline", Expect: "DEADLINE_EXCEEDED in time; the app sees the call end",
		Run: func(t *Try) error {
			proxy, client, err := t.grpc()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: ""})
			for err == nil {
				_, err = watch.Recv()
			}
			if err := same(nil, "code", status.Code(err).String(), codes.DeadlineExceeded.String()); err != nil {
				return err
			}
			return within(soon, func() error {
				counted, err := proxy.metric(requests)
				if err == nil && counted != 1 {
					err = fmt.Errorf("%v requests are counted, not 1", counted)
				}
				return err
			})
		},
	},
	{
		Group: "gRPC", Name: "the app is gone", Expect: "UNAVAILABLE, at once, by a gRPC answer of the proxy",
		Run: func(t *Try) error {
			proxy, err := t.proxy(freePort(), "http")
			if err != nil {
				return err
			}
			client, err := t.health(proxy)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_, err = client.Check(ctx, &healthpb.HealthCheckRequest{})
			if err := same(nil, "code", status.Code(err).String(), codes.Unavailable.String()); err != nil {
				return err
			}
			return proxy.counts(1, requests, `reason="connect_refused"`)
		},
	},
}, interopCases()...)

// The cases of gRPC's own interoperability suite, with its Go client, that need neither TLS nor a cloud.
func interopCases() []Case {
	var cases []Case
	for _, name := range []string{
		"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "timeout_on_sleeping_server",
		"cancel_after_begin", "cancel_after_first_response", "status_code_and_message", "special_status_message", "custom_metadata",
		"unimplemented_method", "unimplemented_service",
	} {
		cases = append(cases, Case{
			Group: "gRPC", Name: "interop " + name, Expect: "gRPC's Go interop client is content, and its calls are counted",
			Run: func(t *Try) error {
				proxy, _, err := t.grpc()
				if err != nil {
					return err
				}
				_, err = command(3*patience, "client", "--server_host", "127.0.0.1", "--server_port", strconv.Itoa(proxy.Port), "--test_case", name)
				// A deadline of 1 ms may be spent on the connection. A call that is taken back with the same bytes that began it is none to an
				// implementation of HTTP/2.
				if err != nil || name == "timeout_on_sleeping_server" || name == "cancel_after_begin" {
					return err
				}
				return within(soon, func() error {
					counted, err := proxy.metric(requests)
					if err == nil && counted == 0 {
						err = fmt.Errorf("no request is counted")
					}
					return err
				})
			},
		})
	}
	return cases
}

// grpc starts the gRPC app, a proxy before it, and a client of its health service.
func (t *Try) grpc() (*Proxy, healthpb.HealthClient, error) {
	proxy, err := t.before("grpc")
	if err != nil {
		return nil, nil, err
	}
	client, err := t.health(proxy)
	return proxy, client, err
}

func (t *Try) health(proxy *Proxy) (healthpb.HealthClient, error) {
	connection, err := grpc.NewClient(proxy.addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	t.cleanup(func() { connection.Close() })
	return healthpb.NewHealthClient(connection), nil
}
