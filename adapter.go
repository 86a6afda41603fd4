package dspex

import (
	"context"
	"crypto/rand"
	"encoding/hex"
)

// Adapter keeps programs under ids of the caller's own without naming a session: what a single bridge's adapter did. Nobody
// else's programs are met, because each Adapter has a session to itself, whose id cannot be guessed. Its jobs run one at a time.
type Adapter struct {
	c       *Client
	session string
}

// Adapter makes an Adapter. The client's other methods reach the same programs by its Session.
func (c *Client) Adapter() *Adapter {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	return &Adapter{c, "adapter-" + hex.EncodeToString(random)}
}

// Session is the session of the adapter's programs. Any client that has its id can use them; idle for an hour, it is dropped.
func (a *Adapter) Session() string { return a.session }

// CreateProgram keeps a program; config is the arguments of create_program. The result is the id that config gives it.
func (a *Adapter) CreateProgram(ctx context.Context, config Args, opts ...CallOption) (id string, err error) {
	reply, err := a.c.Execute(ctx, a.session, "create_program", config, opts...)
	if err != nil {
		return "", err
	}
	if err := reply.Decode(&id); err != nil {
		return "", badReply("the id of the program is not the expected JSON: %v", err)
	}
	return id, nil
}

// ExecuteProgram runs a program. The reply's outputs are under the key outputs of its result.
func (a *Adapter) ExecuteProgram(ctx context.Context, id string, inputs map[string]any, opts ...CallOption) (Reply, error) {
	return a.c.Execute(ctx, a.session, "execute_program", Args{"program_id": id, "inputs": inputs}, opts...)
}

// Close removes the programs.
func (a *Adapter) Close(ctx context.Context) error {
	_, err := a.c.Execute(ctx, a.session, "cleanup_session", nil)
	return err
}
