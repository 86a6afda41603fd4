package openai

import (
	"net/http"
	"slices"

	"github.com/dspex/dspex"
)

// models are those that a caller may name: the profiles that the gateway received, and programs.
func (s *Server) models(r *http.Request) ([]string, *failure) {
	c := s.Who(r.Context())
	session, f := sessionFor(r, c, nil, "")
	if f != nil {
		return nil, f
	}
	reply, err := execute(r.Context(), c.Client, session, "list_programs", dspex.Args{})
	if err != nil {
		return nil, failed(err)
	}
	var listed struct {
		Programs []struct {
			ID string `json:"id"`
		} `json:"programs"`
	}
	if err := reply.Decode(&listed); err != nil {
		return nil, failed(&dspex.Error{Category: dspex.ErrCommunication, Code: dspex.CodeBadReply, Message: "the list of programs is not the expected JSON"})
	}
	all := append([]string{Default}, s.Models()...)
	for _, p := range listed.Programs {
		all = append(all, programs+p.ID)
	}
	return all, nil
}

func modelOf(name string) map[string]any {
	return map[string]any{"id": name, "object": "model", "created": 0, "owned_by": "dspex"}
}

func (s *Server) listModels(w http.ResponseWriter, r *http.Request) {
	names, f := s.models(r)
	if f != nil {
		f.write(w)
		return
	}
	data := make([]any, len(names))
	for i, name := range names {
		data[i] = modelOf(name)
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": data})
}

func (s *Server) showModel(w http.ResponseWriter, r *http.Request) {
	names, f := s.models(r)
	name := r.PathValue("model")
	if f == nil && !slices.Contains(names, name) {
		f = &failure{status: http.StatusNotFound, Type: typeOf(http.StatusNotFound), Param: "model", Code: "model_not_found", Message: "there is no such model"}
	}
	if f != nil {
		f.write(w)
		return
	}
	writeJSON(w, http.StatusOK, modelOf(name))
}
