package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// maxHead is the most that a request line and its headers may have together.
const maxHead = 64 << 10

var errHeadSize = fmt.Errorf("more than %d bytes of headers", maxHead)

// peekHead waits for a whole head and leaves it in the buffer, which must be of
// maxHead bytes: net/http is to parse the same bytes.
func peekHead(in *bufio.Reader) ([]byte, error) {
	seen := 0
	for {
		b, err := in.Peek(max(in.Buffered(), seen+1))
		if i := bytes.Index(b[max(seen-3, 0):], []byte("\r\n\r\n")); i >= 0 {
			return b[:max(seen-3, 0)+i+4], nil
		}
		seen = len(b)
		switch {
		case errors.Is(err, bufio.ErrBufferFull), err == nil && seen == maxHead:
			return nil, errHeadSize
		case err != nil:
			return nil, err
		}
		// A bare line feed would be waited upon for ever.
		if i := bytes.IndexByte(b, '\n'); i >= 0 && (i == 0 || b[i-1] != '\r') {
			return nil, errBareLF
		}
	}
}

var errBareLF = errors.New("a line that does not end in CR LF")

// checkHead refuses what two parsers may read in two ways, which net/http mends
// or overlooks: line ends other than CR LF, folded headers, control characters,
// blanks around names, more than one statement of the length of the body. It
// returns the Host header.
func checkHead(head []byte) (host string, err error) {
	lines := strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")
	version, err := checkRequestLine(lines[0])
	if err != nil {
		return "", err
	}
	count := map[string]int{}
	for _, line := range lines[1:] {
		name, value, err := checkHeader(line)
		if err != nil {
			return "", err
		}
		count[name]++
		switch name {
		case "host":
			host = value
		case "content-length":
			if value == "" || strings.Trim(value, "0123456789") != "" {
				return "", errors.New("a Content-Length that is no number")
			}
		case "transfer-encoding":
			if !strings.EqualFold(value, "chunked") || version != "HTTP/1.1" {
				return "", errors.New("a Transfer-Encoding other than chunked of HTTP/1.1")
			}
		}
	}
	switch {
	case count["content-length"]+count["transfer-encoding"] > 1:
		return "", errors.New("two statements of the body's length")
	case count["host"] > 1, version == "HTTP/1.1" && count["host"] == 0:
		return "", errors.New("not one Host header")
	}
	return host, nil
}

func checkRequestLine(line string) (version string, err error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !isToken(parts[0]) || parts[1] == "" {
		return "", errors.New("no request line")
	}
	for _, c := range []byte(parts[1]) {
		if c <= ' ' || c >= 0x7f {
			return "", errors.New("a target with other than printable ASCII characters")
		}
	}
	if parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0" {
		return "", errors.New("neither HTTP/1.1 nor HTTP/1.0")
	}
	return parts[2], nil
}

// checkHeader returns the name in lower case and the value without blanks around it.
func checkHeader(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) {
		return "", "", errors.New("a header without a proper name")
	}
	for _, c := range []byte(value) {
		if (c < ' ' && c != '\t') || c == 0x7f {
			return "", "", errors.New("a control character in a header")
		}
	}
	return strings.ToLower(name), strings.Trim(value, " \t"), nil
}

// isToken is token of RFC 9110.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
