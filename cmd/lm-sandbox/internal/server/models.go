package server

import (
	"net/http"
	"time"
)

// modelObject is OpenAI's model object.
type modelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// newModelObject stamps the model with the time it began to be served.
func newModelObject(name string) modelObject {
	return modelObject{ID: name, Object: "model", Created: time.Now().Unix(), OwnedBy: "lm-sandbox"}
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, struct {
		Object string        `json:"object"`
		Data   []modelObject `json:"data"`
	}{"list", []modelObject{s.model}})
}
