package engine

import (
	"math"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGroups: groups take turns, whoever comes and goes.
func TestGroups(t *testing.T) {
	of := func(keys ...string) []*sequence {
		var out []*sequence
		for _, k := range keys {
			out = append(out, &sequence{key: key{adapters: k}})
		}
		return out
	}
	var g groups
	turns := func(n int, running []*sequence) (order string) {
		for range n {
			g.next(running)
			order += g.now
		}
		return order
	}
	g.next(nil)
	require.Equal(t, "aaa", turns(3, of("a", "a")))
	require.Equal(t, "ababab", turns(6, of("a", "b", "a")))
	require.Equal(t, "abcabc", turns(6, of("a", "b", "c")))
	require.Equal(t, "aaa", turns(3, of("a")))
	// Newcomers with adapters of their own, each gone after a step, do not overtake.
	waited := 0
	for i := range 100 {
		g.next(of("a", "b", string(rune(1000+i))))
		if waited++; g.now == "b" {
			waited = 0
		}
		require.Less(t, waited, 4)
	}
	require.LessOrEqual(t, len(g.last), 3, "what is gone is forgotten")
}

// TestFieldsCross: every field of what goes to a worker process arrives there, or is refused by name.
func TestFieldsCross(t *testing.T) {
	check := func(t *testing.T, zero reflect.Value, kind string) {
		for i := range zero.NumField() {
			field := zero.Type().Field(i)
			if !field.IsExported() {
				continue
			}
			t.Run(field.Name, func(t *testing.T) {
				in := reflect.New(zero.Type()).Elem()
				carried := fill(in.Field(i))
				b, err := encodeWire(nil, in.Interface(), kind)
				if !carried {
					var refused *ErrInvalid
					require.ErrorAs(t, err, &refused)
					require.Contains(t, refused.Field, field.Name)
					return
				}
				require.NoError(t, err)
				r, out := wireReader{b: b}, reflect.New(zero.Type()).Elem()
				r.read(out)
				require.NoError(t, r.err)
				require.Equal(t, in.Interface(), out.Interface())
				require.False(t, out.Field(i).IsZero())
			})
		}
	}
	t.Run("Request", func(t *testing.T) { check(t, reflect.ValueOf(Request{}), "Request") })
	t.Run("ChatRequest", func(t *testing.T) { check(t, reflect.ValueOf(ChatRequest{}), "ChatRequest") })
}

// fill makes a value that is not zero; false for Go code, which no other process can have.
func fill(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(-7)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(math.Inf(-1))
	case reflect.String:
		v.SetString("x\x00\xff")
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		return fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		if !fill(key) || !fill(value) {
			return false
		}
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && !fill(v.Field(i)) {
				return false
			}
		}
	case reflect.Func:
		v.Set(reflect.MakeFunc(v.Type(), nil))
		return false
	default:
		return false
	}
	return true
}
