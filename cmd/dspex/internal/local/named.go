package local

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dspex/dspex/internal/config"
	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/tokens"
)

// checkNamed reports what is wrong with the files that a file of settings names, and that the flags of `dspex dev` do not read.
func checkNamed(f *config.File) error {
	texts := map[string]string{}
	for _, s := range f.Settings {
		texts[s.Flag] = s.Text
	}
	var wrong []error
	for _, s := range f.Settings {
		if s.Text == "" {
			continue
		}
		if err := checkFileOf(s.Flag, s.Text, texts); err != nil {
			wrong = append(wrong, f.About(s, err.Error(), s.Key+": "+err.Error()))
		}
	}
	return errors.Join(wrong...)
}

func checkFileOf(flag, path string, texts map[string]string) (err error) {
	switch flag {
	case "tenant-quotas":
		_, err = dispatch.ReadQuotas(path)
	case "gateway.tokens":
		_, err = tokens.Read(path)
	case "tls-cert", "gateway.tls-cert": // with its key, whose faults are the certificate's too
		key := texts[strings.TrimSuffix(flag, "cert")+"key"]
		if key == "" {
			return fmt.Errorf("must have the key beside it: set %skey", strings.TrimSuffix(strings.ReplaceAll(flag, "-", "_"), "cert"))
		}
		_, err = tls.LoadX509KeyPair(path, key)
	case "tls-key", "gateway.tls-key":
		if cert := strings.TrimSuffix(flag, "key") + "cert"; texts[cert] == "" {
			return fmt.Errorf("must have the certificate beside it: set %s", strings.ReplaceAll(cert, "-", "_"))
		}
	case "tls-ca":
		return checkText(path, "must be a certificate in PEM", func(b []byte) bool { return x509.NewCertPool().AppendCertsFromPEM(b) })
	case "creds":
		return checkText(path, "must be a file of NATS credentials", func(b []byte) bool {
			return bytes.Contains(b, []byte("BEGIN NATS USER JWT")) && bytes.Contains(b, []byte("SEED"))
		})
	case "nkey", "password-file":
		return checkText(path, "must not be empty", func(b []byte) bool { return len(bytes.TrimSpace(b)) > 0 })
	}
	return err
}

// checkText never repeats what is in the file: it may be secret.
func checkText(path, what string, is func([]byte) bool) error {
	b, err := os.ReadFile(path)
	if err == nil && !is(b) {
		err = fmt.Errorf("%s %s", path, what)
	}
	return err
}
