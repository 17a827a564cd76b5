package sandbox

import "context"

// Fork makes another session that begins where this one is: a new sandbox of the same
// [Config] with a copy of the shell's directory, variables (exported or not), functions,
// aliases, options, umask and positional parameters, and of what is in /home/user, /tmp,
// /dev/shm and a /workspace that dies with the sandbox. From then on each goes its own
// way. It takes its turn like an Exec; Close must be called of both.
//
// Processes are not copied, nor traps, open files, the history, the terminal. A host
// directory (Config.Workspace, Binds) is the same for both. With Config.Overlay the new
// session runs on one of its own, by [Overlay.Fork], which [Session.Overlay] returns and
// which the caller closes. What processes write meanwhile may be copied or not; a file
// that shrinks meanwhile is an error. Sockets, pipes and files that their owner may not
// read are left out; a directory that its owner may not write is writable in the copy.
//
// # Errors
//
// Those of [NewSession], [Files.GetTar] and [Overlay.Fork]; [ErrSetup] where the shell
// does not give its state, [ErrShellExited], [ErrClosed], ctx's. Nothing is left then.
func (s *Session) Fork(ctx context.Context) (*Session, error) { return s.impl.fork(ctx) }

// Overlay is the [Config.Overlay] that the session runs on, or nil.
func (s *Session) Overlay() *Overlay { return s.impl.overlay() }
