package dspex

import (
	"context"
	"encoding/json"

	"github.com/dspex/dspex/internal/contract"
)

// LM is the chosen language model.
type LM struct {
	Model       string          `json:"model"`
	Provider    string          `json:"provider"`
	Temperature *float64        `json:"temperature"` // nil: the profile's, or the model's own
	Raw         json.RawMessage `json:"-"`           // the raw result
}

// LMOption changes a choice of language model: SetLM.
type LMOption interface{ applyLM(*lmChoice) }

type lmChoice struct {
	args    Args
	session string
	scoped  bool // to the session, also if its id is empty: that is refused
}

type lmOption func(*lmChoice)

func (o lmOption) applyLM(c *lmChoice) { o(c) }

func lmArg(name string, value any) LMOption {
	return lmOption(func(c *lmChoice) { c.args[name] = value })
}

// WithAPIKey names the key by a reference, env:NAME or file:PATH, that each host reads: its provider's usual one, or one that
// the operator allows (worker-host --allow-key-refs). The key itself is refused, and not sent.
func WithAPIKey(reference string) LMOption { return lmArg("api_key", reference) }

// WithProvider sets the provider, for models whose name does not include it.
func WithProvider(name string) LMOption { return lmArg("provider", name) }

// WithMaxTokens bounds each answer.
func WithMaxTokens(n int) LMOption { return lmArg("max_tokens", n) }

// WithoutTemperature leaves the temperature to the profile, or to the model; without it and WithTemperature it is 0.7.
func WithoutTemperature() LMOption { return lmArg("temperature", nil) }

// ForSession makes the choice that of one session.
func ForSession(session string) LMOption {
	return lmOption(func(c *lmChoice) { c.session, c.scoped = session, true })
}

// SetLM sets the language model of all jobs that set none, on every host and for every worker, later ones too; with
// ForSession that of one session. The model is the name of a profile of the hosts, or of a model. Nothing is called to try it.
// The choice for all needs the operator's role.
func (c *Client) SetLM(ctx context.Context, model string, opts ...LMOption) (LM, error) {
	choice := lmChoice{args: Args{"model": model}}
	for _, o := range opts {
		o.applyLM(&choice)
	}
	subject := contract.RPCAdminAnonymous
	if choice.scoped {
		var err error
		if subject, err = sessionSubject(contract.RPCSession, choice.session); err != nil {
			return LM{}, err
		}
	}
	reply, err := c.call(ctx, subject, choice.session, "set_lm", choice.args, nil)
	if err != nil {
		return LM{}, err
	}
	lm := LM{Raw: reply.Result}
	if err := reply.Decode(&lm); err != nil {
		return LM{}, badReply("the answer about the language model is not the expected JSON: %v", err)
	}
	return lm, nil
}
