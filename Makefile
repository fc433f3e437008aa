# Each target calls a script or cargo; what it does stands there.
.DEFAULT_GOAL := help
.PHONY: help build test lint images e2e e2e-up e2e-down demo demo-cluster conformance initial v1 v2 v3 create_load install_prometheus apply_rules install_nginx install_grafana reset_demo bench bench-soak bench-admission bench-tls bench-logs bench-sync bench-collector bench-policies bench-inject torture-logs fuzz-logs fuzz-sync fuzz-guard

help: ## this list
	@sed -n 's/^\([a-z0-9_-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

build: ## compile everything
	cargo build --workspace --locked

test: ## unit, golden and property tests; installs what they need
	@scripts/setup test
	cargo test --workspace --exclude outrigger-e2e --locked

lint: ## formatting, clippy, the chart, the scripts
	@scripts/setup lint
	@scripts/lint

images: ## the container images, with docker or buildah
	@images/build

e2e: ## end-to-end tests on a real kind cluster; installs and starts what they need
	@scripts/setup e2e
	@e2e/test

e2e-up: ## the tests' cluster, to look around in
	@scripts/setup e2e
	@e2e/cluster/up

e2e-down: ## take that cluster down; nothing of it stays
	@e2e/cluster/down

demo: ## the webhook, sidecars with a fault to find, and the dashboard, on this machine, without a cluster
	@scripts/setup demo
	@scripts/demo

demo-cluster: ## a cluster with the chart and the demo app, its traffic counted
	@scripts/setup e2e
	@e2e/demo

initial: ## the talk on the kind cluster: a frontend that fails now and then, and nobody knows why
	@scripts/setup e2e
	@scripts/talk initial

v1: ## the talk: sidecars that measure, by a label and a profile
	@scripts/talk v1

v2: ## the talk: the API's log file as JSON, by another profile
	@scripts/talk v2

v3: ## the talk: a circuit breaker with a canned answer, by another profile
	@scripts/talk v3

create_load: ## the talk: 20 requests a second
	@scripts/talk create_load

install_prometheus: ## the talk: Prometheus, which finds the sidecars
	@scripts/setup e2e
	@scripts/talk install_prometheus

apply_rules: ## the talk: recording rules and alerts
	@scripts/talk apply_rules

install_nginx: ## the talk: an ingress for the frontend, where the internet is there
	@scripts/talk install_nginx

install_grafana: ## the talk: Grafana with the dashboards, where the internet is there
	@scripts/talk install_grafana

reset_demo: ## the talk: back to nothing
	@scripts/talk reset_demo

conformance: ## real clients and servers of other makers on both sides of the proxy
	@conformance/run

bench: ## what the data plane costs, beside HAProxy, nginx and Envoy
	@bench/dataplane/run

bench-soak: ## the proxy's memory over ten minutes of load
	@bench/dataplane/run soak 600

torture-logs: ## writers, logrotate, kill -9 and a reader that stops, on 10 million lines a mode (LINES)
	@scripts/setup test
	LINES=$${LINES:-10000000} cargo test --release --locked -p outrigger-logs --test torture -- --test-threads=1 --nocapture

fuzz-logs: ## ten million strange lines through the formats of the log adapter (OUTRIGGER_FUZZ)
	OUTRIGGER_FUZZ=$${OUTRIGGER_FUZZ:-10000000} cargo test --release --locked -p outrigger-logs --test fuzz -- --nocapture

fuzz-sync: ## strange tag patterns, names and links in trees, and orders of versions through the content sync (PROPTEST_CASES)
	PROPTEST_CASES=$${PROPTEST_CASES:-100000} cargo test --locked -p outrigger-sync --lib

fuzz-guard: ## a million strange tokens, overrides and files of users, and ten thousand passwords (OUTRIGGER_FUZZ)
	OUTRIGGER_FUZZ=$${OUTRIGGER_FUZZ:-1000000} cargo test --release --locked -p outrigger-proxy --lib auth::fuzz

bench-tls: ## what TLS and tokens cost, beside HAProxy
	@bench/tls/run

bench-admission: ## what an admission costs
	@bench/admission/run

bench-logs: ## what the log adapter costs, beside rsyslog
	@bench/logs/run

bench-sync: ## what the content sync costs, beside git clone
	@bench/sync/run

bench-collector: ## what the collector costs that watches 2,000 sidecars
	@bench/collector/run

bench-policies: ## what a profile's policies cost, and how soon an open circuit breaker answers
	@bench/policies/run

bench-inject: ## what the injection alone costs, without TLS and the network
	cargo bench --locked -p outrigger-inject --bench inject

bench-rules: ## how long Prometheus takes for the chart's rules over 500 pods
	@bench/rules/run

bench-custom-metrics: ## how long the collector takes to answer an autoscaler, with 2,000 pods
	cargo test --release --locked -p outrigger-collector --lib -- --ignored --nocapture how_long
