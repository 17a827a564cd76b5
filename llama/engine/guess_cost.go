package engine

import "time"

// guessCost is what a guess costs, as a part of a step with one token. Only steps that
// follow each other are compared, so that it matters little how busy the machine is.
type guessCost struct {
	single float64 // seconds of a step with one token
	token  float64 // of each further token in a step, as a part of that
	model  float64 // of the draft model, for each of its tokens, as a part of that

	tokens, models int  // measurements
	known          bool // nothing is learned
}

const (
	// firstCost is taken before anything has been measured: cheap enough that it is tried.
	firstCost = 0.1
	// learns is the weight of a new measurement; the first ones weigh more.
	learns = 0.1
	// relents is the weight of firstCost in a step without guesses: what was measured
	// once does not hold for ever.
	relents = 0.001
)

func newGuessCost() guessCost { return guessCost{token: firstCost, model: firstCost} }

// step is the time of a step with n tokens, as a part of that with one.
func (c *guessCost) step(n int) float64 { return 1 + c.token*float64(n-1) }

// observe takes a step of n sequences with so many guesses.
func (c *guessCost) observe(seconds float64, n, drafted int) {
	if c.known {
		return
	}
	if drafted == 0 {
		single := seconds / c.step(n)
		if c.single > 0 {
			// one step that somebody else's work made long is not believed
			single = c.single + 2*learns*(min(single, 2*c.single)-c.single)
		}
		c.single = single
		c.token += relents * min(0, firstCost-c.token)
		c.model += relents * min(0, firstCost-c.model)
		return
	}
	if c.single > 0 {
		part := (seconds/c.single - c.step(n)) / float64(drafted)
		c.token = learn(c.token, min(max(part, 0), 1), &c.tokens)
	}
}

func learn(old, measured float64, n *int) float64 {
	*n++
	return old + max(learns, 1/float64(*n+1))*(measured-old)
}

// drafted takes what the draft model needed for n tokens.
func (c *guessCost) drafted(took time.Duration, n int) {
	if c.single > 0 {
		part := took.Seconds() / c.single / float64(n)
		c.model = learn(c.model, min(part, 1), &c.models)
	}
}
