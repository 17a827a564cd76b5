package server

import (
	"fmt"
	"net/http"
	"strings"
)

// handler answers a request, or returns an error having sent nothing.
type handler func(w http.ResponseWriter, r *http.Request) error

type route struct {
	method string
	open   bool // needs no key
	handle handler
}

func (s *Server) newRoutes() map[string]route {
	return map[string]route{
		"/health":              {method: http.MethodGet, open: true, handle: s.health},
		"/v1/models":           {method: http.MethodGet, handle: s.models},
		"/v1/chat/completions": {method: http.MethodPost, handle: s.chatCompletions},
		"/v1/embeddings":       {method: http.MethodPost, handle: s.embeddings},
		"/v1/rerank":           {method: http.MethodPost, handle: s.rerank},
		"/run-bash":            {method: http.MethodPost, handle: s.runBash},
		"/llama-cpp":           {method: http.MethodPost, handle: s.llamaCPP},
		"/ollama":              {method: http.MethodPost, handle: s.ollama},
	}
}

// dispatch finds the route by hand: http.ServeMux would answer unknown paths and
// methods in plain text and redirect a path that lacks or has a slash too many.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) error {
	to, known := s.routes[strings.TrimSuffix(r.URL.Path, "/")]
	if err := s.guard.check(r, to.open); err != nil {
		return err
	}
	if !known {
		return &apiError{
			status: http.StatusNotFound, kind: "not_found_error", code: "unknown_path",
			message: fmt.Sprintf("there is no %.100q here: 'lm-sandbox serve --help' lists the endpoints", r.URL.Path),
		}
	}
	allowed := r.Method == to.method || r.Method == http.MethodHead && to.method == http.MethodGet
	if !allowed {
		return &apiError{
			status: http.StatusMethodNotAllowed, kind: "invalid_request_error", code: "method_not_allowed", allow: to.method,
			message: fmt.Sprintf("%s takes %s, not %s", r.URL.Path, to.method, r.Method),
		}
	}
	if s.isClosing.Load() && !to.open {
		return closing()
	}
	return to.handle(w, r)
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	if s.isClosing.Load() {
		return closing()
	}
	return writeJSON(w, http.StatusOK, struct {
		Status string `json:"status"`
	}{"ok"})
}
