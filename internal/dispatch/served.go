package dispatch

import (
	"github.com/dspex/dspex/internal/dispatch/audit"
	"github.com/dspex/dspex/internal/dispatch/endpoint"
)

type served struct {
	name, subject string
	plain         string // the subject without a tenant
	audit         audit.Which
	handler       func(endpoint.Request)
	call          bool // it becomes a job: handled one at a time, in the order in which they come
}

// stored is the endpoint, whose requests become jobs.
func (e served) stored() served {
	e.call = true
	return e
}

func at(name, subject string, audit audit.Which, handler func(endpoint.Request)) served {
	return served{name: name, subject: subject, plain: subject, audit: audit, handler: handler}
}
