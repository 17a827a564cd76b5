package engine

// GuessAlways makes guesses as if they cost nothing, where they do not pay on models as
// small as those of the tests.
func GuessAlways(e *Engine) { e.loop.guesser.cost = guessCost{known: true} }
