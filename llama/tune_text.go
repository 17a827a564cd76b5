package llama

// tuneText is what Tune measures on where it is given nothing: written for it.
const tuneText = `The ferry left the harbour a little after six, while the lamps along the quay were still lit. Anna stood at the
rail with her collar turned up and counted the boats that had not gone out. There were nine of them, more than last year, and she
knew the name of every owner. Her father had once said that a town is as old as the oldest boat in it, and that nobody should trust
a place where all the paint was new. Behind her a boy was trying to explain to his sister how a lock works. First the gates are
closed, he said, then the water comes in from above, and the ship rises until it is as high as the canal. "And if the gates break?"
she asked. He thought about it for a while. "Then you get wet," he answered.

How to store apples through the winter. Choose fruit without bruises, pick it on a dry day, and let it lie for one night in a cool
room. Wrap each apple in paper, so that a rotten one does not spoil its neighbours, and put them in shallow boxes, no more than two
layers deep. The best temperature is between 2 and 4 degrees. Look through the boxes every two weeks; an apple that smells of wine
should be eaten, or thrown away, the same day. Late varieties keep until March.

Question: A train travels 120 kilometres in an hour and a half. How fast is it? Answer: Divide the distance by the time. 120 / 1.5 =
80, so the train travels at 80 kilometres per hour.

func sum(values []int) int {
	total := 0
	for _, v := range values {
		total += v
	}
	return total
}

The function above adds up the numbers in a list. It returns zero for an empty list, which is what most callers expect, and it does
not check for overflow, which some of them should. In 1998 the committee decided that reports are due on the first Monday of each
quarter. Reports that arrive later are read, but not discussed. Members who cannot attend may vote by letter; such a vote counts
only if it reaches the secretary before the meeting is opened.`
