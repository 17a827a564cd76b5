package sandbox

import (
	"fmt"
	"slices"
)

// DefaultProtect is what programs of the host run, or believe, when somebody uses the
// workspace there: for [Config.Protect].
func DefaultProtect() []string {
	return []string{
		// commondir names another directory, whose config git reads instead.
		".git/hooks", ".git/config", ".git/config.worktree", ".git/commondir", ".gitmodules", ".husky",
		".bashrc", ".bash_profile", ".bash_login", ".profile", ".zshrc", ".zprofile", ".zshenv", ".zlogin",
		".envrc", ".vscode", ".idea", ".mcp.json",
	}
}

const maxProtect = 64

func (c *Config) protect() ([]string, error) {
	if len(c.Protect) > maxProtect {
		return nil, &ErrConfig{"Protect", fmt.Sprintf("more than %d paths", maxProtect)}
	}
	var paths []string
	for i, name := range c.Protect {
		clean, err := cleanName(name)
		if err == nil && clean == "." {
			err = &ErrFile{name, "is the workspace itself; use a read-only Bind", nil}
		}
		if err != nil {
			return nil, &ErrConfig{fmt.Sprintf("Protect[%d]", i), err.Error()}
		}
		paths = append(paths, clean)
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}
