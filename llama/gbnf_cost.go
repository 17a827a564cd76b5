package llama

import "fmt"

// What a grammar costs llama.cpp, estimated from above.
const (
	maxGrammarBytes  = 256 << 10
	maxGrammarStacks = 4096    // parse stacks alive at one place: each is tried with each token of the vocabulary
	maxGrammarWeight = 1 << 13 // characters and ranges of all classes at one place: each is compared with each token's characters
	maxGrammarWork   = 1 << 17 // stacks at one place times those that each leads to
	maxGrammarVisits = 1 << 20 // calls of the search for left recursion, which visits shared rules again and again
	maxGrammarDepth  = 1000    // depth of that search
)

// gbnfCost is the cost of what begins at one place of a grammar.
type gbnfCost struct {
	stacks int  // parse stacks that end in a terminal
	weight int  // characters and ranges of these terminals
	empty  int  // ways to be empty
	visits int  // of the search for left recursion
	depth  int  // of that search
	direct bool // that search knows that it may be empty
}

// saturate keeps sums and products of costs from overflowing.
func saturate(n int) int { return min(n, 1<<28) }

type gbnfAnalysis struct {
	g     *gbnf
	costs []gbnfCost
	state []int8 // per rule: 0 new, 1 in progress, 2 done
}

// checkCost refuses grammars that would take llama.cpp too long or too much memory, and left recursion.
func (g *gbnf) checkCost() error {
	a := &gbnfAnalysis{g: g, costs: make([]gbnfCost, len(g.rules)), state: make([]int8, len(g.rules))}
	visits := 0
	for n := range g.rules {
		c, err := a.rule(n)
		if err != nil {
			return err
		}
		if visits = saturate(visits + c.visits); visits > maxGrammarVisits {
			return g.fault(g.at[n], "the grammar is too ambiguous: its rules have too many ways to begin")
		}
	}
	for n, alts := range g.rules {
		if err := a.places(alts); err != nil {
			return g.fault(g.at[n], "%v", err)
		}
	}
	return nil
}

func (a *gbnfAnalysis) rule(n int) (gbnfCost, error) {
	switch a.state[n] {
	case 1:
		return gbnfCost{}, a.g.fault(a.g.at[n], "rule %q begins with itself: left recursion is not supported", a.g.nameOf(n))
	case 2:
		return a.costs[n], nil
	}
	a.state[n] = 1
	c, err := a.alts(a.g.rules[n])
	if err != nil {
		return c, err
	}
	if c.depth > maxGrammarDepth {
		return c, a.g.fault(a.g.at[n], "rules refer to each other over more than %d levels", maxGrammarDepth)
	}
	a.state[n], a.costs[n] = 2, c
	return c, nil
}

func (a *gbnfAnalysis) alts(alts gbnfAlts) (gbnfCost, error) {
	sum := gbnfCost{visits: 1, depth: 1}
	for _, seq := range alts {
		searching, empty := true, 1
		if len(seq) == 0 {
			sum.direct = true
		}
		for i := range seq {
			if empty == 0 {
				break
			}
			c, err := a.item(&seq[i])
			if err != nil {
				return sum, err
			}
			sum.stacks = saturate(sum.stacks + empty*c.stacks)
			sum.weight = saturate(sum.weight + empty*c.weight)
			empty = saturate(empty * c.empty)
			sum.depth = max(sum.depth, c.depth+1)
			if searching {
				sum.visits = saturate(sum.visits + c.visits)
				searching = c.direct
			}
		}
		sum.empty = saturate(sum.empty + empty)
	}
	return sum, nil
}

func (a *gbnfAnalysis) item(it *gbnfItem) (gbnfCost, error) {
	switch it.kind {
	case gbnfRule:
		return a.rule(it.rule)
	case gbnfGroup:
		return a.alts(it.alts)
	case gbnfRepeat:
		c, err := a.item(it.of)
		if err != nil {
			return c, err
		}
		times := 1 // stacks of one S, of up to max where S may be empty
		if c.empty > 0 {
			times = max(it.max, it.min, 1)
		}
		r := gbnfCost{stacks: saturate(c.stacks * times), weight: saturate(c.weight * times), depth: c.depth + 1, visits: 1 + c.visits, empty: c.empty}
		if c.direct {
			r.visits = saturate(r.visits * times)
			r.depth = saturate(r.depth + times)
		}
		if it.min == 0 {
			r.empty, r.direct = 1, true
		}
		return r, nil
	default:
		if it.size == 0 { // "" and []
			return gbnfCost{empty: 1, direct: true}, nil
		}
		return gbnfCost{stacks: 1, weight: max(it.class, 1)}, nil
	}
}

// places checks the stacks at every place of the grammar, since parsing goes on from each.
func (a *gbnfAnalysis) places(alts gbnfAlts) error {
	for _, seq := range alts {
		after, work, weight := 0, 0, 0
		for i := len(seq) - 1; i >= 0; i-- {
			it := &seq[i]
			for it.kind == gbnfRepeat {
				it = it.of
			}
			if it.kind == gbnfGroup {
				if err := a.places(it.alts); err != nil {
					return err
				}
			}
			c, err := a.item(&seq[i])
			if err != nil {
				return err
			}
			work = saturate(c.stacks*max(after, 1) + min(c.empty, 1<<16)*min(work, 1<<20))
			after = min(c.stacks+c.empty*after, 1<<20)
			weight = saturate(c.weight + min(c.empty, 1<<16)*min(weight, 1<<14))
			if weight > maxGrammarWeight {
				return fmt.Errorf("the grammar's character classes are too large: at one place there can be at most %d characters and ranges", maxGrammarWeight)
			}
			if after > maxGrammarStacks || work > maxGrammarWork {
				return fmt.Errorf("the grammar is too ambiguous: at one place it can go on in too many ways")
			}
		}
	}
	return nil
}
