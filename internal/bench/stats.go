package main

import (
	"math"
	"math/rand/v2"
	"slices"
)

// quantile is the smallest value that at least a share q of v does not exceed
// (nearest rank); NaN where v is empty.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	rank := int(math.Ceil(q * float64(len(s))))
	return s[min(max(rank, 1), len(s))-1]
}

// median is the mean of the two middle values where their number is even.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

const resamples = 10000

// medianInterval is the 95 % interval of the median by bootstrap; the same values
// always give the same interval.
func medianInterval(v []float64) (low, high float64) {
	if len(v) == 0 {
		return math.NaN(), math.NaN()
	}
	random := rand.New(rand.NewPCG(1, 2))
	medians := make([]float64, resamples)
	sample := make([]float64, len(v))
	for i := range medians {
		for j := range sample {
			sample[j] = v[random.IntN(len(v))]
		}
		medians[i] = median(sample)
	}
	return quantile(medians, 0.025), quantile(medians, 0.975)
}
