package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
)

// readJSON decodes the one JSON value of the request's body into v. Fields that v
// does not have are ignored, as OpenAI's clients expect of a server older than they.
// It reads to the end of the body: only then does net/http watch for a client that
// goes away.
func (s *Server) readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if err := checkContentType(r.Header); err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.maxBody))
	if err != nil {
		return bodyError(err)
	}
	return decodeJSON(body, v)
}

// checkContentType keeps simple cross-site requests out: a web page may send
// text/plain or a form without asking, application/json only after a preflight
// that this service refuses.
func checkContentType(h http.Header) error {
	unsupported := func(format string, args ...any) error {
		return &apiError{
			status: http.StatusUnsupportedMediaType, kind: "invalid_request_error", code: "unsupported_media_type",
			message: fmt.Sprintf(format, args...),
		}
	}
	types := h.Values("Content-Type")
	if len(types) != 1 {
		return unsupported("send the body with one header \"Content-Type: application/json\"")
	}
	mediaType, params, err := mime.ParseMediaType(types[0])
	if err != nil || mediaType != "application/json" {
		return unsupported("Content-Type is %q: send \"Content-Type: application/json\"", types[0])
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return unsupported("charset is %q: send UTF-8", charset)
	}
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return unsupported("Content-Encoding is %q: send the body uncompressed", encoding)
	}
	return nil
}

func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &apiError{
			status: http.StatusRequestEntityTooLarge, kind: "invalid_request_error", code: "body_too_large",
			message: fmt.Sprintf("the body is larger than %d bytes, the most this service takes", tooLarge.Limit),
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &apiError{
			status: http.StatusRequestTimeout, kind: "invalid_request_error", code: "body_timeout",
			message: "the body did not arrive in time: send it without pauses",
		}
	default:
		return &apiError{
			status: http.StatusBadRequest, kind: "invalid_request_error", code: "incomplete_body",
			message: "the body ended before its announced length", cause: err,
		}
	}
}

func decodeJSON(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return badRequest("invalid_json", "the body is empty: send a JSON object")
	}
	err := json.Unmarshal(body, v)
	if err == nil {
		return nil
	}
	var (
		api    *apiError
		syntax *json.SyntaxError
		kind   *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &api): // from an UnmarshalJSON of ours
		return api
	case errors.As(err, &syntax):
		return badRequest("invalid_json", "the body is not valid JSON at byte %d: %s", syntax.Offset, syntax.Error())
	case errors.As(err, &kind) && kind.Field == "":
		return badRequest("invalid_type", "the body must be a JSON object, not %s", kind.Value)
	case errors.As(err, &kind):
		name := strings.TrimPrefix(kind.Field, "samplingParams.") // embedded: no part of the name that the client wrote
		return badRequest("invalid_type", "field %q cannot hold a JSON %s", name, kind.Value)
	default:
		return badRequest("invalid_json", "the body cannot be read as JSON: %s", err)
	}
}

// marshal renders v without escaping <, > and &: answers are read by programs, and
// nosniff keeps browsers from taking them for HTML.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := marshal(v)
	if err != nil {
		return internal(err)
	}
	return writeBody(w, status, body)
}

func writeBody(w http.ResponseWriter, status int, body []byte) error {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		return clientGone(err)
	}
	return nil
}
