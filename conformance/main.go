// Conformance: real clients and servers of other makers on both sides of the proxy, and raw bytes where no decent client
// would send them.
//
//	conformance -proxy PROGRAM [-tools DIRECTORY] [-only TEXT] [-page FILE]
//	conformance app KIND ...
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Case is one promise, tried on a proxy of its own.
type Case struct {
	Group  string
	Name   string
	Expect string
	// Why it fails today, where that is known; shown beside a failure.
	Known string
	// Waits for minutes: it runs beside the others from the start.
	Slow bool
	Run  func(t *Try) error
}

// Outcome of a case.
type Outcome struct {
	Case
	Err  error
	Took time.Duration
}

// errSkipped marks a case whose tool is not here. It is no success: the summary tells it.
var errSkipped = errors.New("left out")

var (
	proxyProgram = flag.String("proxy", "", "the program outrigger-proxy")
	toolsDir     = flag.String("tools", "", "directory of h2spec and of the gRPC client")
	only         = flag.String("only", "", "run only the cases whose group/name contains this")
	quick        = flag.Bool("quick", false, "leave out what takes minutes or needs h2spec and other tools")
	page         = flag.String("page", "", "the page whose section is rewritten")
	about        = flag.String("about", "", "what stands above the results in the page")
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "app" {
		fmt.Fprintln(os.Stderr, "conformance app:", runApp(os.Args[2], os.Args[3:]))
		os.Exit(1)
	}
	flag.Parse()
	if *proxyProgram == "" {
		fmt.Fprintln(os.Stderr, "error: -proxy is missing\nhint: conformance/run sets it")
		os.Exit(2)
	}
	outcomes := runAll(wanted())
	failed := summarize(outcomes)
	if *page != "" {
		if err := writePage(*page, *about, outcomes); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
	}
	if failed > 0 {
		os.Exit(1)
	}
}

func wanted() []Case {
	all := [][]Case{http1Cases, framingCases, smugglingCases(), upgradeCases, http2Cases, grpcCases, tlsCases, tcpCases, faultCases, boundsCases, countCases}
	var cases []Case
	for _, group := range all {
		for _, one := range group {
			if strings.Contains(one.Group+"/"+one.Name, *only) && !(*quick && one.Slow) {
				cases = append(cases, one)
			}
		}
	}
	return cases
}

// runAll runs the slow cases beside the others, which run one after the other: some of them mind the time.
func runAll(cases []Case) []Outcome {
	outcomes := make([]Outcome, len(cases))
	var slow sync.WaitGroup
	for number, one := range cases {
		if one.Slow {
			slow.Go(func() { outcomes[number] = run(one) })
		}
	}
	for number, one := range cases {
		if !one.Slow {
			outcomes[number] = run(one)
		}
	}
	slow.Wait()
	return outcomes
}

func run(one Case) Outcome {
	started := time.Now()
	t := &Try{}
	err := one.Run(t)
	t.end()
	outcome := Outcome{Case: one, Err: err, Took: time.Since(started).Round(time.Millisecond)}
	switch {
	case err == nil:
		fmt.Printf("ok    %s/%s (%v)\n", one.Group, one.Name, outcome.Took)
	case errors.Is(err, errSkipped):
		fmt.Printf("skip  %s/%s: %v\n", one.Group, one.Name, err)
	default:
		fmt.Printf("FAIL  %s/%s (%v)\n      expected: %s\n      %v\n", one.Group, one.Name, outcome.Took, one.Expect, err)
	}
	return outcome
}

func summarize(outcomes []Outcome) (failed int) {
	passed, skipped := 0, 0
	for _, outcome := range outcomes {
		switch {
		case outcome.Err == nil:
			passed++
		case errors.Is(outcome.Err, errSkipped):
			skipped++
		default:
			failed++
		}
	}
	fmt.Printf("\n%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return failed
}

// tool finds a program: in -tools, else in PATH; a case without its tool is skipped.
func tool(name string) (string, error) {
	if *toolsDir != "" {
		if path, err := exec.LookPath(*toolsDir + "/" + name); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: %s is not here", errSkipped, name)
	}
	return path, nil
}
