package mcptools

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// NewServer makes a server of the tools. It queries the pool for its programs when a client lists tools.
func NewServer(a Access, version string) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "dspex", Version: version}, &mcp.ServerOptions{
		Instructions: instructions, Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}},
	})
	for _, c := range commands {
		s.AddTool(c.tool(), a.handle(c.run))
	}
	t := &programTools{access: a, server: s}
	s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			call, _ := req.(*mcp.CallToolRequest)
			if method == "tools/list" || call != nil && strings.HasPrefix(call.Params.Name, programPrefix) {
				if err := t.refresh(ctx); err != nil {
					return nil, fmt.Errorf("the programs cannot be listed: %w", err)
				}
			}
			return next(ctx, method, req)
		}
	})
	return s
}

// Handler serves the tools over HTTP, without sessions of its own: any gateway can answer any request.
func Handler(access func(*http.Request) Access, version string, maxBody int64) http.Handler {
	return mcp.NewStreamableHTTPHandler(func(r *http.Request) *mcp.Server { return NewServer(access(r), version) }, &mcp.StreamableHTTPOptions{
		Stateless: true, PropagateRequestCancellation: true, MaxRequestBodyBytes: maxBody,
		DisableLocalhostProtection: true, // what is in front has it
	})
}
