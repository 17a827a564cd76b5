package sandbox

import "time"

// maxRemains bounds the sandboxes of this process that the kernel is taking down in
// the background: then commands that have ended wait for it, until their context
// ends, or their Limits.Wall, or they are killed: that does not change their result.
const maxRemains = 16

var remaining = make(chan struct{}, maxRemains)

// remains is what is left of a sandbox when its command has ended and no process of
// it is left: the helper's own two, which end now, and then namespaces and a control
// group that are empty. That takes the kernel as long as all the rest.
type remains struct {
	err  error         // of the launcher; valid once gone is closed
	gone chan struct{} // closed when the launcher is gone, and pid 1 before it
	left chan struct{} // closed when nobody needs the control group any more
	free chan struct{} // closed when nothing is left
	slow bool          // it is counted in remaining
}

// reap waits for the helper in the background.
func (p *process) reap() *remains {
	r := &remains{gone: make(chan struct{}), left: make(chan struct{}), free: make(chan struct{})}
	go func() {
		defer close(r.free)
		r.err = p.cmd.Wait()
		if r.err != nil {
			p.shutdown() // a launcher that was killed may have left its pid 1, which ends by this
		}
		// What they have sent is still in the socket.
		_ = p.control.SetReadDeadline(time.Now().Add(killPatience))
		close(r.gone)
		<-r.left
		if p.group != nil {
			p.group.Remove()
		}
		if r.slow {
			<-remaining
		}
	}()
	return r
}

// queue waits until the kernel may go on alone with it, or for stop.
func (r *remains) queue(stop <-chan struct{}) {
	select {
	case remaining <- struct{}{}:
		r.slow = true
	case <-stop:
	}
}

// leave returns when nothing is left, or at once where the kernel is to go on alone.
func (r *remains) leave(whole bool) {
	close(r.left)
	if whole {
		<-r.free
	}
}
