package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

const handshakes = "outrigger_tls_handshakes_total"

var tlsCases = []Case{
	{
		Group: "TLS", Name: "curl, HTTP/2 by ALPN", Expect: "200 by HTTP/2 with a certificate that it trusts, counted",
		Run: func(t *Try) error { return curlByTLS(t, "2") },
	},
	{
		Group: "TLS", Name: "curl --http1.1", Expect: "200 by HTTP/1.1, counted",
		Run: func(t *Try) error { return curlByTLS(t, "1.1", "--http1.1") },
	},
	{
		Group: "TLS", Name: "curl --no-alpn --tls-max 1.2", Expect: "200 by HTTP/1.1: without ALPN nothing else is meant",
		Run: func(t *Try) error { return curlByTLS(t, "1.1", "--no-alpn", "--tls-max", "1.2") },
	},
	{
		Group: "TLS", Name: "curl, plain HTTP on the port", Expect: "400 with outrigger-reason: plain_http",
		Run: func(t *Try) error {
			proxy, _, err := t.beforeTLS("http")
			if err != nil {
				return err
			}
			out, err := command(patience, "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %header{outrigger-reason}", proxy.url("/"))
			return same(err, "answer", out, "400 plain_http")
		},
	},
	{
		Group: "TLS", Name: "h2load, 20,000 requests, 8 connections, 32 streams", Expect: "20,000 × 200 by h2, each counted; 8 handshakes",
		Run: func(t *Try) error {
			proxy, _, err := t.beforeTLS("http")
			if err != nil {
				return err
			}
			out, err := command(6*patience, "h2load", "-n20000", "-c8", "-m32", "-t1", "https://"+proxy.addr()+"/")
			if err != nil {
				return err
			}
			for _, wanted := range []string{" 20000 2xx, 0 3xx, 0 4xx, 0 5xx", "Application protocol: h2"} {
				if !strings.Contains(out, wanted) {
					return fmt.Errorf("no %q in what h2load says: %s", wanted, out)
				}
			}
			if err := proxy.counts(20_000, requests, `code="200"`); err != nil {
				return err
			}
			return proxy.counts(8, handshakes)
		},
	},
	{
		Group: "TLS", Name: "h2load --h1, 20,000 requests, 64 connections", Expect: "20,000 × 200 by HTTP/1.1, each counted",
		Run: func(t *Try) error {
			proxy, _, err := t.beforeTLS("http")
			if err != nil {
				return err
			}
			out, err := command(6*patience, "h2load", "--h1", "-n20000", "-c64", "-t1", "https://"+proxy.addr()+"/")
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
		Group: "TLS", Name: "openssl s_client -reconnect, TLS 1.2", Expect: "one full handshake, five resumed",
		Run: func(t *Try) error {
			proxy, _, err := t.beforeTLS("http")
			if err != nil {
				return err
			}
			out, err := command(patience, "openssl", "s_client", "-connect", proxy.addr(), "-tls1_2", "-reconnect", "-no_ign_eof")
			if err != nil {
				return err
			}
			if reused := strings.Count(out, "Reused, TLSv1.2"); reused != 5 {
				return fmt.Errorf("%d of 5 sessions were reused: %s", reused, out)
			}
			return proxy.counts(5, handshakes, `result="resumed"`)
		},
	},
	{
		Group: "TLS", Name: "Go, HTTP/2 on resumed connections of TLS 1.3", Expect: "every connection after the first resumes",
		Run: resumeWithGo,
	},
	{
		Group: "TLS", Name: "gRPC by Go, with transport credentials", Expect: "SERVING, counted by grpc_code",
		Run: grpcByTLS,
	},
	{
		Group: "TLS", Name: "h2spec -t", Expect: "all of its cases pass, and the proxy counts requests",
		Run: func(t *Try) error {
			proxy, _, err := t.beforeTLS("http")
			if err != nil {
				return err
			}
			return h2spec(proxy, "-t", "-k")
		},
	},
	{Group: "TLS", Name: "testssl.sh", Expect: "no finding above low but of the certificate, which is ours", Slow: true, Run: testSSL},
}

// authority signs the certificate of a try's proxy.
type authority struct {
	file string
	pool *x509.CertPool
}

// beforeTLS starts an app of that kind and a proxy before it that ends TLS.
func (t *Try) beforeTLS(kind string) (*Proxy, authority, error) {
	app := freePort()
	if _, err := t.app(kind, app); err != nil {
		return nil, authority{}, err
	}
	dir, err := t.work()
	if err != nil {
		return nil, authority{}, err
	}
	signer, err := certify(filepath.Join(dir, "secrets", "web-tls"))
	if err != nil {
		return nil, authority{}, err
	}
	proxy, err := t.proxyWith(map[string]any{"target": app, "protocol": "http", "tls": map[string]any{"secretName": "web-tls"}},
		"--secrets", filepath.Join(dir, "secrets"))
	return proxy, signer, err
}

// certify makes an authority and puts a certificate of it for 127.0.0.1 and localhost into a directory, as the kubelet does a Secret of TLS.
func certify(dir string) (authority, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return authority{}, err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "conformance"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return authority{}, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return authority{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return authority{}, err
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	for name, block := range map[string][]byte{
		"ca.crt":  caPEM,
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), block, 0o644); err != nil {
			return authority{}, err
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(caPEM)
	return authority{file: filepath.Join(dir, "ca.crt"), pool: pool}, nil
}

func curlByTLS(t *Try, version string, args ...string) error {
	proxy, signer, err := t.beforeTLS("http")
	if err != nil {
		return err
	}
	args = append(args, "-sS", "--cacert", signer.file, "-o", "/dev/null", "-w", "%{http_code} %{http_version}", fmt.Sprintf("https://localhost:%d/", proxy.Port))
	out, err := command(patience, "curl", args...)
	if err := same(err, "answer", out, "200 "+version); err != nil {
		return err
	}
	if err := proxy.counts(1, requests, `code="200"`); err != nil {
		return err
	}
	return proxy.counts(1, handshakes, `result="full"`)
}

func resumeWithGo(t *Try) error {
	proxy, signer, err := t.beforeTLS("http")
	if err != nil {
		return err
	}
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: signer.pool, ClientSessionCache: tls.NewLRUClientSessionCache(0), MinVersion: tls.VersionTLS13},
	}
	client := &http.Client{Transport: transport, Timeout: patience}
	for number := range 5 {
		answer, err := client.Get("https://" + proxy.addr() + "/")
		if err := expectStatus(answer, err, 200); err != nil {
			return err
		}
		if answer.ProtoMajor != 2 || answer.TLS.DidResume != (number > 0) {
			return fmt.Errorf("connection %d: %s, resumed: %v", number, answer.Proto, answer.TLS.DidResume)
		}
		transport.CloseIdleConnections()
	}
	return proxy.counts(4, handshakes, `result="resumed"`)
}

func grpcByTLS(t *Try) error {
	proxy, signer, err := t.beforeTLS("grpc")
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(proxy.addr(), grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(signer.pool, "localhost")))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{})
	if err := same(err, "status", answer.GetStatus().String(), "SERVING"); err != nil {
		return err
	}
	return proxy.counts(1, grpcRequests, `grpc_code="OK"`)
}

func testSSL(t *Try) error {
	proxy, _, err := t.beforeTLS("http")
	if err != nil {
		return err
	}
	dir, err := t.work()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "findings.json")
	// It ends with the number of its findings, which says nothing of how grave they are.
	_, ended := command(5*time.Minute, "testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--jsonfile", file, "localhost:"+strconv.Itoa(proxy.Port))
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%w: %w", err, ended)
	}
	var findings []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(text, &findings); err != nil {
		return err
	}
	var bad []string
	vulnerabilities := 0
	for _, found := range findings {
		if found.ID == "heartbleed" || found.ID == "ROBOT" || found.ID == "BEAST" {
			vulnerabilities++
		}
		// What it says of a certificate that no public authority has signed, and of headers, which are the app's to send.
		if strings.HasPrefix(found.ID, "cert") {
			continue
		}
		switch found.ID {
		case "DNS_CAArecord", "OCSP_stapling", "security_headers":
			continue
		// Warnings about its own client: the machine's OpenSSL may come without engines; and having nothing to say, it often leaves before
		// the ticket of TLS 1.3 comes on a busy machine (14 of 30 times), and then can't try whether one works.
		case "engine_problem", "sessionresumption_ticket":
			if found.Severity == "WARN" {
				continue
			}
		}
		switch found.Severity {
		case "MEDIUM", "HIGH", "CRITICAL", "FATAL", "WARN":
			bad = append(bad, fmt.Sprintf("%s %s: %s", found.Severity, found.ID, found.Finding))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("testssl.sh says: %s", strings.Join(bad, "; "))
	}
	if vulnerabilities != 3 {
		return fmt.Errorf("testssl.sh did not get to its end, with %d findings: %w", len(findings), ended)
	}
	return nil
}
