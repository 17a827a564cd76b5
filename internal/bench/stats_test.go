package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestQuantile(t *testing.T) {
	v := []float64{5, 1, 4, 2, 3}
	for _, test := range []struct{ q, want float64 }{{0, 1}, {0.2, 1}, {0.21, 2}, {0.5, 3}, {0.99, 5}, {1, 5}} {
		assert.Equal(t, test.want, quantile(v, test.q), "q = %g", test.q)
	}
	assert.True(t, math.IsNaN(quantile(nil, 0.5)))
	assert.Equal(t, []float64{5, 1, 4, 2, 3}, v, "the values stay as they are")
}

func TestMedian(t *testing.T) {
	assert.Equal(t, 3.0, median([]float64{9, 1, 3}))
	assert.Equal(t, 2.5, median([]float64{4, 1, 2, 3}))
	assert.True(t, math.IsNaN(median(nil)))
}

func TestMedianInterval(t *testing.T) {
	low, high := medianInterval([]float64{1, 1, 1})
	assert.Equal(t, []float64{1, 1}, []float64{low, high})

	v := make([]float64, 15)
	for i := range v {
		v[i] = float64(i)
	}
	low, high = medianInterval(v)
	// By order statistics the interval at 95 % is that of the values 3 to 11.
	assert.InDelta(t, 3, low, 1)
	assert.InDelta(t, 11, high, 1)
	again, _ := medianInterval(v)
	assert.Equal(t, low, again, "the same values give the same interval")
}
