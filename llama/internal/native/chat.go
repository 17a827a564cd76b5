//go:build cgo

package native

/*
#include "shim.h"
*/
import "C"

import "strings"

// Chat is an opaque set of chat templates.
type Chat struct{ p *C.lm_chat }

// Parser is an opaque parser of one request's answers.
type Parser struct{ p *C.lm_parser }

// NewChat compiles the model's templates, or tmpl where it is not empty.
func NewChat(m Model, tmpl string) (Chat, error) {
	var c Chat
	var cerr *C.char
	p, n := chars(tmpl)
	err := toError(C.lm_chat_new(m.p, p, n, &c.p, &cerr), cerr)
	return c, err
}

// BuiltinTemplates are the names that NewChat takes for a template.
func BuiltinTemplates() ([]string, error) {
	var out, cerr *C.char
	var n C.size_t
	if err := toError(C.lm_chat_builtins(&out, &n, &cerr), cerr); err != nil {
		return nil, err
	}
	return strings.Fields(takeString(out, n)), nil
}

// Free releases the templates.
func (c Chat) Free() { C.lm_chat_free(c.p) }

// Caps describes the templates in JSON.
func (c Chat) Caps() (string, error) {
	var out, cerr *C.char
	var n C.size_t
	if err := toError(C.lm_chat_caps(c.p, &out, &n, &cerr), cerr); err != nil {
		return "", err
	}
	return takeString(out, n), nil
}

// Apply renders a request; both sides are JSON.
func (c Chat) Apply(request string) (string, error) {
	var out, cerr *C.char
	var n C.size_t
	p, size := chars(request)
	if err := toError(C.lm_chat_apply(c.p, p, size, &out, &n, &cerr), cerr); err != nil {
		return "", err
	}
	return takeString(out, n), nil
}

// NewParser makes a parser from the "parser" part of an Apply's result.
func NewParser(params string) (Parser, error) {
	var out Parser
	var cerr *C.char
	p, n := chars(params)
	err := toError(C.lm_parser_new(p, n, &out.p, &cerr), cerr)
	return out, err
}

// Free releases the parser.
func (p Parser) Free() { C.lm_parser_free(p.p) }

// Parse reads an answer, the whole or its beginning, and gives a message in JSON.
func (p Parser) Parse(text string, partial bool) (string, error) {
	var out, cerr *C.char
	var n C.size_t
	s, size := chars(text)
	if err := toError(C.lm_parser_parse(p.p, s, size, C.bool(partial), &out, &n, &cerr), cerr); err != nil {
		return "", err
	}
	return takeString(out, n), nil
}
