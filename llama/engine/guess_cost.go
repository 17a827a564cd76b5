package engine

import "time"

// guessCost is what a guess costs, as a part of a step with one token. Only steps that
// follow each other are compared, so that it matters little how busy the machine is.
type guessCost struct {
	single float64    // seconds of a step with one token
	few    [2]float64 // of each further token: of few, of more; kernels for several tokens want at least four
	model  float64    // of the draft model, for each of its tokens

	tokens [2]int // measurements
	models int
	known  bool // nothing is learned
}

const (
	fewTokens = 3
	// firstCost is taken before anything has been measured: cheap enough that it is tried.
	firstCost = 0.1
	// mostCost bounds a measurement: something else made the step longer.
	mostCost = 2
	// learns is the weight of a new measurement; the first ones weigh more.
	learns = 0.1
	// relents is the weight of firstCost in a step without guesses: what was measured
	// once does not hold for ever.
	relents = 0.001
)

func newGuessCost() guessCost {
	return guessCost{few: [2]float64{firstCost, firstCost}, model: firstCost}
}

func many(n int) int {
	if n > fewTokens {
		return 1
	}
	return 0
}

// step is the time of a step of n sequences.
func (c *guessCost) step(n int) float64 { return 1 + c.guesses(n-1) }

// guesses is the time of n guesses.
func (c *guessCost) guesses(n int) float64 { return c.few[many(n)] * float64(n) }

// observe takes a step of n sequences with so many guesses.
func (c *guessCost) observe(seconds float64, n, drafted int) {
	if c.known {
		return
	}
	if drafted == 0 {
		single := seconds / c.step(n)
		if c.single > 0 {
			single = c.single + 2*learns*(min(single, mostCost*c.single)-c.single)
		}
		c.single = single
		for i := range c.few {
			c.few[i] += relents * min(0, firstCost-c.few[i])
		}
		c.model += relents * min(0, firstCost-c.model)
		return
	}
	if c.single > 0 {
		i := many(drafted)
		part := (seconds/c.single - c.step(n)) / float64(drafted)
		c.few[i] = learn(c.few[i], min(max(part, 0), mostCost), &c.tokens[i])
	}
}

func learn(old, measured float64, n *int) float64 {
	*n++
	return old + max(learns, 1/float64(*n+1))*(measured-old)
}

// drafted takes what the draft model needed for n tokens.
func (c *guessCost) drafted(took time.Duration, n int) {
	if c.single > 0 && !c.known {
		part := took.Seconds() / c.single / float64(n)
		c.model = learn(c.model, min(part, mostCost), &c.models)
	}
}
