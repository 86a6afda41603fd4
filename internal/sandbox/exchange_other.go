//go:build !linux

package sandbox

import (
	"errors"
	"io"
	"net"
	"os"
)

// Exchange is of Linux only, as the level that needs it.
type Exchange struct{}

// NewExchange makes one that hands out nothing.
func NewExchange() *Exchange { return &Exchange{} }

// Open fails.
func (x *Exchange) Open() (*os.File, io.Closer, error) { return nil, nil, errors.ErrUnsupported }

// Accept implements net.Listener.
func (x *Exchange) Accept() (net.Conn, error) { return nil, net.ErrClosed }

// Close implements net.Listener.
func (x *Exchange) Close() error { return nil }

// Addr implements net.Listener.
func (x *Exchange) Addr() net.Addr { return &net.UnixAddr{Name: "workers", Net: "unix"} }
