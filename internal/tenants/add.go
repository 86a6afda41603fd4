package tenants

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Add writes the files of a new tenant.
func Add(dir string, n New) error {
	if err := n.Check(); err != nil {
		return err
	}
	all, err := List(dir)
	if err != nil {
		return err
	}
	user := n.User
	if n.NKey != "" {
		user = n.NKey
	}
	for _, t := range all {
		if strings.EqualFold(t.Name, n.Name) {
			return fmt.Errorf("there is a tenant %q", t.Name)
		}
		if slices.Contains(t.Users, user) {
			return fmt.Errorf("the user %q is tenant %q's: users of a broker have names of their own", user, t.Name)
		}
	}
	text, err := n.file()
	if err != nil {
		return err
	}
	index, mode, err := read(dir)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, n.Name+".conf"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return write(dir, fmt.Appendf(bytes.TrimRight(index, "\n"), "\n%s { include \"%s.conf\" }\n", n.Name, n.Name), mode)
}
