// Package agent lets a language model do a task by calling tools, one of which is
// bash in a sandbox.
//
//	for event, err := range agent.Run(ctx, agent.Config{Engine: e}, "Print the last line of log.txt.") {
//		if err != nil {
//			return err
//		}
//		switch ev := event.(type) {
//		case agent.Call:
//			fmt.Println("calls", ev.Tool, ev.Arguments)
//		case agent.Done:
//			fmt.Println(ev.Answer)
//		}
//	}
//
// Run asks the model, calls the tools that it names, tells it their results, and asks
// again, until the model answers or a limit of [Config] is reached.
//
// # Calls
//
// A grammar made of the tools' schemas constrains what the model writes, so that even a
// small one writes only calls that can be decoded. What a call does is the model's: the
// bash tool runs commands in one [sandbox.Session] for the whole run, and
// [Config.Approve] can refuse each call. A [Tool] is a Go function ([Func]).
//
// # Results
//
// What a tool returns is data. It is made valid UTF-8 without control characters, is
// shortened in the middle where it is long, and no text in it becomes a control token
// of the model. The model may still believe what it reads there: what must not happen
// has to be impossible in the sandbox.
package agent
