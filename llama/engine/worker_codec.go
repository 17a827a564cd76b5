package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"reflect"
)

// What crosses between an engine and its worker is written by one codec for all
// types: the exported fields in their order, without names, since both sides are
// the same types (typeHash). It loses nothing that gob and JSON lose: a pointer to
// false, -Inf, text that is not UTF-8, an empty slice that is not nil.

// appendValue appends v, or says with the place in it what cannot cross.
func appendValue(b []byte, v reflect.Value, place string) (_ []byte, err error) {
	switch v.Kind() {
	case reflect.Bool:
		n := uint64(0)
		if v.Bool() {
			n = 1
		}
		return binary.AppendUvarint(b, n), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return binary.AppendVarint(b, v.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return binary.AppendUvarint(b, v.Uint()), nil
	case reflect.Float32:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v.Float()))), nil
	case reflect.Float64:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Float())), nil
	case reflect.String:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		return append(b, v.String()...), nil
	case reflect.Array:
		return appendElements(b, v, place)
	case reflect.Slice:
		if v.IsNil() {
			return append(b, 0), nil
		}
		b = binary.AppendUvarint(b, uint64(v.Len())+1)
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return append(b, v.Bytes()...), nil
		}
		return appendElements(b, v, place)
	case reflect.Map:
		if v.IsNil() {
			return append(b, 0), nil
		}
		b = binary.AppendUvarint(b, uint64(v.Len())+1)
		for _, key := range v.MapKeys() {
			if b, err = appendValue(b, key, place); err != nil {
				return nil, err
			}
			if b, err = appendValue(b, v.MapIndex(key), place); err != nil {
				return nil, err
			}
		}
		return b, nil
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, 0), nil
		}
		return appendValue(append(b, 1), v.Elem(), place)
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			switch {
			case field.IsExported():
				b, err = appendValue(b, v.Field(i), place+"."+field.Name)
			case !v.Field(i).IsZero():
				err = invalid(place+"."+field.Name, "cannot be used with Isolated: it is not exported")
			}
			if err != nil {
				return nil, err
			}
		}
		return b, nil
	default: // functions, interfaces, channels
		if v.IsZero() {
			return b, nil
		}
		return nil, invalid(place, "cannot be used with Isolated: Go code does not reach the worker process")
	}
}

func appendElements(b []byte, v reflect.Value, place string) (_ []byte, err error) {
	for i := range v.Len() {
		if b, err = appendValue(b, v.Index(i), place); err != nil {
			return nil, err
		}
	}
	return b, nil
}

var errWire = errors.New("engine: the other process wrote what cannot be read")

// wireReader reads what appendValue wrote. It trusts no length.
type wireReader struct {
	b   []byte
	err error
}

func (r *wireReader) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.b)) {
		r.err = errWire
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *wireReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.take(uint64(max(n, 0)))
	if n <= 0 {
		r.err = errWire
	}
	return v
}

func (r *wireReader) varint() int64 {
	v, n := binary.Varint(r.b)
	r.take(uint64(max(n, 0)))
	if n <= 0 {
		r.err = errWire
	}
	return v
}

// length reads the length of a list; false for nil. Each element takes a byte at the least.
func (r *wireReader) length() (int, bool) {
	n := r.uvarint()
	if r.err != nil || n == 0 {
		return 0, false
	}
	if n-1 > uint64(len(r.b)) {
		r.err = errWire
		return 0, false
	}
	return int(n - 1), true
}

func (r *wireReader) read(v reflect.Value) {
	if r.err != nil {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.uvarint() != 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(r.varint())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.uvarint())
	case reflect.Float32:
		if b := r.take(4); r.err == nil {
			v.SetFloat(float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
		}
	case reflect.Float64:
		if b := r.take(8); r.err == nil {
			v.SetFloat(math.Float64frombits(binary.LittleEndian.Uint64(b)))
		}
	case reflect.String:
		v.SetString(string(r.take(r.uvarint())))
	case reflect.Array:
		for i := range v.Len() {
			r.read(v.Index(i))
		}
	case reflect.Slice:
		n, ok := r.length()
		if !ok {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			copy(v.Bytes(), r.take(uint64(n)))
			return
		}
		for i := range n {
			r.read(v.Index(i))
		}
	case reflect.Map:
		r.readMap(v)
	case reflect.Pointer:
		if r.uvarint() != 0 && r.err == nil {
			v.Set(reflect.New(v.Type().Elem()))
			r.read(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				r.read(v.Field(i))
			}
		}
	default: // was zero
	}
}

func (r *wireReader) readMap(v reflect.Value) {
	n, ok := r.length()
	if !ok {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for range n {
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		r.read(key)
		r.read(value)
		if r.err != nil {
			return
		}
		v.SetMapIndex(key, value)
	}
}

// decodeWire reads a T that is all of b.
func decodeWire[T any](b []byte) (v T, err error) {
	r := wireReader{b: b}
	r.read(reflect.ValueOf(&v).Elem())
	if r.err == nil && len(r.b) > 0 {
		r.err = errWire
	}
	return v, r.err
}

// encodeWire is the bytes of v; place is its name in errors.
func encodeWire(v any, place string) ([]byte, error) {
	return appendValue(nil, reflect.ValueOf(v), place)
}

// typeHash tells apart programs whose types differ, so that none reads what
// another one means differently.
func typeHash(types ...reflect.Type) uint64 {
	h := fnv.New64a()
	seen := map[reflect.Type]bool{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		_, _ = fmt.Fprint(h, t.Kind(), t.String(), ";")
		if seen[t] {
			return
		}
		seen[t] = true
		switch t.Kind() {
		case reflect.Slice, reflect.Array, reflect.Pointer:
			walk(t.Elem())
		case reflect.Map:
			walk(t.Key())
			walk(t.Elem())
		case reflect.Struct:
			for i := range t.NumField() {
				_, _ = fmt.Fprint(h, t.Field(i).Name, ":")
				walk(t.Field(i).Type)
			}
		}
	}
	for _, t := range types {
		walk(t)
	}
	return h.Sum64()
}
