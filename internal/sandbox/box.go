package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
)

// Variable gives a worker its Spec.
const Variable = "DSPEX_SANDBOX"

// spec is what a worker receives (contract/frame.md).
type spec struct {
	Level   string   `json:"level"`
	Scratch string   `json:"scratch"` // a directory below it is the worker's own
	Read    []string `json:"read"`
	Write   []string `json:"write"`
	Secrets []string `json:"secrets"` // files that must not be among what it can read
	Filter  string   `json:"filter"`  // of system calls, in base64
}

// Box is a host's sandbox. Its zero value keeps workers from nothing.
type Box struct {
	Level   Level
	Lacks   error  // why the level is none, where nobody requested that
	Scratch string // directory of the workers' directories, "" at level none
	// Exchange is where workers request connections to language models; nil below Strict: they open their own.
	Exchange *Exchange
	spec     string
	lock     *os.File // of Scratch
}

// Open makes the sandbox of one host. secrets are the files that hold the host's secrets, read what its workers need beside the usual.
// Close it when no worker lives any more.
func (o Options) Open(secrets, read []string) (*Box, error) {
	l, lacks, err := o.resolve()
	if err != nil || l == None {
		return &Box{Lacks: lacks}, err
	}
	s := spec{Level: l.String(), Filter: base64.StdEncoding.EncodeToString(filter(l))}
	if s.Secrets, err = absolute(secrets); err == nil {
		s.Write, err = absolute(o.Write)
	}
	if err == nil {
		s.Read, err = absolute(append(existing(system), append(existing(read), o.Read...)...))
	}
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	var lock *os.File
	if s.Scratch, lock, err = makeScratch(); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // texts always marshal
	}
	box := &Box{Level: l, Scratch: s.Scratch, spec: string(text), lock: lock}
	if l == Strict {
		box.Exchange = NewExchange()
	}
	return box, nil
}

// system is what programs need that are linked, look up names and check certificates. Of /etc only what is public: services keep their
// passwords there, too.
var system = []string{
	"/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/nix/store", "/proc", "/sys/devices/system/cpu", "/sys/fs/cgroup", "/run/systemd/resolve",
	"/etc/alternatives", "/etc/ca-certificates", "/etc/ca-certificates.conf", "/etc/debian_version", "/etc/fonts", "/etc/gai.conf", "/etc/group", "/etc/host.conf", "/etc/hostname",
	"/etc/hosts", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/locale.alias", "/etc/localtime", "/etc/magic", "/etc/mime.types", "/etc/netconfig", "/etc/nsswitch.conf",
	"/etc/os-release", "/etc/passwd", "/etc/pki/ca-trust", "/etc/pki/tls/cert.pem", "/etc/pki/tls/certs", "/etc/protocols", "/etc/python3", "/etc/resolv.conf", "/etc/rpc", "/etc/services",
	"/etc/ssl/cert.pem", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/timezone",
}

// existing leaves out what this machine does not have.
func existing(paths []string) []string {
	var found []string
	for _, path := range paths {
		if _, err := os.Stat(path); path != "" && err == nil {
			found = append(found, path)
		}
	}
	return found
}

// Environ is what a worker finds in its environment.
func (b *Box) Environ() []string {
	if b.spec == "" {
		return nil
	}
	return []string{Variable + "=" + b.spec}
}

// Close removes what workers have left.
func (b *Box) Close() error {
	if b.Exchange != nil {
		b.Exchange.Close()
	}
	if b.Scratch == "" {
		return nil
	}
	defer b.lock.Close()
	return os.RemoveAll(b.Scratch)
}
