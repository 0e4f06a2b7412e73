// runc-lower runs runc with no more than this machine grants.
//
// Sandboxes withhold capabilities (CAP_SYS_RESOURCE, mostly) even from root. A privileged container asks for all of
// them, and runc then fails with "unable to apply caps: operation not permitted". This program takes out of runc's input
// what cannot be had, then becomes the next runc of PATH. With nothing withheld it changes nothing.
//
// Its inputs are the bundle's config.json for create and run, and the file of --process for exec
// (https://github.com/opencontainers/runtime-spec/blob/main/config.md#process).
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Names in the order of the bits of CapBnd (capabilities(7)).
const capabilityNames = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP " +
	"LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO " +
	"SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE " +
	"AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON " +
	"BPF CHECKPOINT_RESTORE"

// Names in the order of the numbers of getrlimit(2) on Linux.
const limitNames = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"

// The part of an OCI process that may ask for too much; everything else is kept as it is.
type process = map[string]any

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "runc-lower:", err)
		os.Exit(127)
	}
}

func run(arguments []string) error {
	if file, key := input(arguments); file != "" {
		// What is missing or unreadable is runc's to report.
		if text, err := os.ReadFile(file); err == nil {
			lowered, err := rewritten(text, key)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if err := os.WriteFile(file, lowered, 0o600); err != nil {
				return err
			}
		}
	}
	next, err := nextRunc()
	if err != nil {
		return err
	}
	return syscall.Exec(next, append([]string{next}, arguments...), os.Environ())
}

// input is the file that says what the container asks for, and the key of the process in it ("": the whole file).
func input(arguments []string) (file, key string) {
	var command, bundle, exec string
	for i, argument := range arguments {
		name, value, joined := strings.Cut(argument, "=")
		if !joined && i+1 < len(arguments) {
			value = arguments[i+1]
		}
		switch name {
		case "--bundle", "-b":
			bundle = value
		case "--process", "-p":
			exec = value
		case "create", "run", "exec":
			if command == "" {
				command = name
			}
		}
	}
	switch command {
	case "create", "run":
		return filepath.Join(bundle, "config.json"), "process"
	case "exec":
		return exec, ""
	}
	return "", ""
}

func rewritten(text []byte, key string) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // no digit may be lost
	var whole map[string]any
	if err := decoder.Decode(&whole); err != nil {
		return nil, err
	}
	if key == "" {
		lower(whole)
	} else if inner, ok := whole[key].(process); ok {
		lower(inner)
	}
	return json.Marshal(whole)
}

func lower(p process) {
	if sets, ok := p["capabilities"].(map[string]any); ok {
		granted := bounding()
		for name, set := range sets {
			kept := []any{}
			for _, capability := range list(set) {
				if name, _ := capability.(string); granted(name) {
					kept = append(kept, capability)
				}
			}
			sets[name] = kept
		}
	}
	// Nobody without CAP_SYS_RESOURCE goes below the score that it has.
	if own, err := number(os.ReadFile("/proc/self/oom_score_adj")); err == nil {
		if wanted, ok := p["oomScoreAdj"].(json.Number); ok {
			if score, err := wanted.Int64(); err == nil && score < own {
				p["oomScoreAdj"] = own
			}
		}
	}
	for _, entry := range list(p["rlimits"]) {
		if limit, ok := entry.(map[string]any); ok {
			lowerLimit(limit)
		}
	}
}

// bounding tells which capabilities this process may give.
func bounding() func(string) bool {
	status, _ := os.ReadFile("/proc/self/status")
	_, after, found := strings.Cut(string(status), "CapBnd:")
	line, _, _ := strings.Cut(after, "\n")
	bits, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if !found || err != nil {
		return func(string) bool { return true }
	}
	granted := map[string]bool{}
	for bit, name := range strings.Fields(capabilityNames) {
		granted["CAP_"+name] = bits&(1<<bit) != 0
	}
	return func(name string) bool { return granted[name] }
}

// lowerLimit keeps a resource limit below the hard limit of this process, which it may not raise.
func lowerLimit(limit map[string]any) {
	kind, _ := limit["type"].(string)
	for resource, name := range strings.Fields(limitNames) {
		var own syscall.Rlimit
		if "RLIMIT_"+name != kind || syscall.Getrlimit(resource, &own) != nil {
			continue
		}
		for _, bound := range []string{"soft", "hard"} {
			wanted, _ := limit[bound].(json.Number)
			if value, err := strconv.ParseUint(wanted.String(), 10, 64); err == nil && value > own.Max {
				limit[bound] = own.Max
			}
		}
	}
}

// nextRunc is the first runc of PATH, and of the usual places, that is not this program.
func nextRunc() (string, error) {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", err
	}
	for _, folder := range filepath.SplitList(os.Getenv("PATH") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin") {
		candidate := filepath.Join(folder, "runc")
		if found, err := os.Stat(candidate); err == nil && !os.SameFile(found, self) {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("there is no runc")
}

func list(value any) []any {
	items, _ := value.([]any)
	return items
}

func number(text []byte, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}
