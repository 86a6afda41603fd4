package dashboard

import (
	"context"
	"net/http"
	"net/url"

	"github.com/dspex/dspex"
)

// batchView is a batch with the widths of its bar, in thousandths.
type batchView struct {
	dspex.Batch
	Bars []bar
	Acts bool
}

func viewBatch(b dspex.Batch, acts bool) batchView {
	v, x := batchView{Batch: b, Acts: acts && b.Phase == dspex.BatchRunning}, 0
	for _, part := range []struct {
		n    int
		kind string
	}{{b.Outcomes.Succeeded, "ran"}, {b.Outcomes.Failed, "failed"}, {b.Outcomes.Expired, "failed"}, {b.Outcomes.Cancelled, "wait"}} {
		if part.n > 0 && b.Jobs > 0 {
			w := max(1000*part.n/b.Jobs, 4)
			v.Bars = append(v.Bars, bar{x, w, part.kind, ""})
			x += w
		}
	}
	return v
}

// batchesView is the page of batches.
type batchesView struct {
	Batches []batchView
	Next    string
}

func (s *Server) batches(ctx context.Context, r *http.Request, sc scope) (any, error) {
	page, err := sc.client.BatchesPage(ctx, pageSize, r.URL.Query().Get("cursor"))
	if err != nil {
		return nil, err
	}
	v := batchesView{}
	for _, b := range page.Items {
		v.Batches = append(v.Batches, viewBatch(b, false))
	}
	if page.Next != "" {
		v.Next = Root + "/batches?" + url.Values{"cursor": {page.Next}}.Encode()
	}
	return v, nil
}

func (s *Server) batch(ctx context.Context, r *http.Request, sc scope) (any, error) {
	b, err := sc.client.GetBatch(ctx, r.URL.Query().Get("id"))
	if err != nil {
		return nil, err
	}
	return struct {
		batchView
		Models []usage
	}{viewBatch(b, sc.operates), usageOf(b.Usage)}, nil
}

func cancelBatch(ctx context.Context, sc scope, f url.Values) (string, error) {
	if !unprefixed.met(sc) {
		return "", &dspex.Error{Code: "role_required", Message: "batches are the whole tenant's: the token has a prefix of sessions"}
	}
	_, err := sc.client.CancelBatch(ctx, f.Get("id"))
	return address("/batch", "batch", "id", f.Get("id")), err
}
