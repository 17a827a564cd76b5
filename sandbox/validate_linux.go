package sandbox

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// environment is the sandbox's own, changed by Env, sorted.
func (c *Config) environment() ([]string, error) {
	env := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME": "/home/user", "USER": "user", "LOGNAME": "user", "SHELL": "/bin/bash",
		"LANG": "C.UTF-8", "TERM": "dumb",
	}
	c.proxyEnvironment(env)
	total := 0
	for k, v := range c.Env {
		field := fmt.Sprintf("Env[%.64q]", k)
		switch {
		case k == "":
			return nil, &ErrConfig{field, "empty name"}
		case strings.ContainsAny(k, "=\x00"):
			return nil, &ErrConfig{field, "a name cannot contain '=' or NUL"}
		case strings.Contains(v, "\x00"):
			return nil, &ErrConfig{field, "contains a NUL byte"}
		case len(k)+1+len(v) > maxString:
			return nil, &ErrConfig{field, fmt.Sprintf("longer than %d bytes", maxString)}
		}
		total += len(k) + len(v) + 2
		env[k] = v
	}
	if total > maxStrings || len(env) > maxVector {
		return nil, &ErrConfig{"Env", fmt.Sprintf("more than %d bytes or %d variables", maxStrings, maxVector)}
	}
	out := make([]string, 0, len(env))
	for k, v := range env {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out, nil
}

// checkInside checks a path that is to be resolved in the sandbox.
func checkInside(field, p string) error {
	switch {
	case strings.Contains(p, "\x00"):
		return &ErrConfig{field, "contains a NUL byte"}
	case !path.IsAbs(p):
		return &ErrConfig{field, fmt.Sprintf("%.64q is not absolute", p)}
	case path.Clean(p) != p:
		return &ErrConfig{field, fmt.Sprintf("%.64q is not in its shortest form", p)}
	case len(p) > 4095:
		return &ErrConfig{field, "longer than a path can be"}
	}
	return nil
}

// within says that p is dir or below it.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

func (c *Config) dir() (string, error) {
	if c.Dir == "" {
		return "/workspace", nil
	}
	if err := checkInside("Dir", c.Dir); err != nil {
		return "", err
	}
	if within(c.Dir, "/proc") {
		return "", &ErrConfig{"Dir", "below /proc, whose links lead elsewhere"}
	}
	return c.Dir, nil
}

// reservedTargets are built by the sandbox itself; nothing is mounted below them.
var reservedTargets = []string{"/workspace", "/proc", "/dev", "/sys", "/usr", "/bin", "/sbin", "/lib", "/lib32",
	"/lib64", "/libx32", "/etc", "/run"}

func (c *Config) checkBinds() error {
	seen := map[string]bool{"/": true, "/tmp": true, "/home": true, "/home/user": true, "/var": true, "/var/tmp": true}
	for i, b := range c.Binds {
		source, target := fmt.Sprintf("Binds[%d].Source", i), fmt.Sprintf("Binds[%d].Target", i)
		if err := checkInside(target, b.Target); err != nil {
			return err
		}
		if err := checkInside(source, b.Source); err != nil {
			return err
		}
		for _, r := range reservedTargets {
			if within(b.Target, r) {
				return &ErrConfig{target, fmt.Sprintf("%.64q is at or below %s, which the sandbox makes itself", b.Target, r)}
			}
		}
		if seen[b.Target] {
			return &ErrConfig{target, fmt.Sprintf("%.64q is taken already", b.Target)}
		}
		seen[b.Target] = true
		for j, o := range c.Binds[:i] {
			if within(b.Target, o.Target) || within(o.Target, b.Target) {
				return &ErrConfig{target, fmt.Sprintf("%.64q overlaps Binds[%d]", b.Target, j)}
			}
		}
	}
	return nil
}

// checkFeatures checks fields that are about nothing else.
func (c *Config) checkFeatures() error {
	if c.HelperPath != "" {
		if !path.IsAbs(c.HelperPath) {
			return &ErrConfig{"HelperPath", fmt.Sprintf("%.64q is not absolute", c.HelperPath)}
		}
		if err := checkHelper(c.HelperPath); err != nil {
			return err
		}
	}
	if c.MinLevel < 0 || c.MinLevel > LevelCgroup {
		return &ErrConfig{"MinLevel", "no such level"}
	}
	return nil
}
