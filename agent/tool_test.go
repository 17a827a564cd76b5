package agent

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

type weather struct {
	City string `json:"city" jsonschema:"the name of the city"`
	Days int    `json:"days,omitempty"`
}

func TestFunc(t *testing.T) {
	tool := Func("weather", "Tell the weather.", func(_ context.Context, w weather) (string, error) {
		return w.City, nil
	})
	require.NoError(t, tool.err)
	require.JSONEq(t, `{"type":"object","additionalProperties":false,"required":["city"],"properties":{
		"city":{"type":"string","description":"the name of the city"},"days":{"type":"integer"}}}`, string(tool.Schema))
	for arguments, complaint := range map[string]string{
		`{"city":"Rome"}`:              "",
		`{"city":"Rome","days":2}`:     "",
		`{"days":2}`:                   "do not follow the schema",
		`{"city":1}`:                   "do not follow the schema",
		`{"city":"Rome","other":true}`: "do not follow the schema",
		`{"city":"Ro`:                  "not JSON",
		`null`:                         "do not follow the schema",
		`{"city":"Rome","days":1e99}`:  "do not",
	} {
		output, err := tool.run(t.Context(), json.RawMessage(arguments))
		if complaint == "" {
			require.NoError(t, err)
			require.Equal(t, "Rome", output)
		} else {
			require.ErrorContains(t, err, complaint, arguments)
		}
	}
}

func TestFuncOfNoStruct(t *testing.T) {
	for _, tool := range []Tool{
		Func("a", "", func(context.Context, string) (string, error) { return "", nil }),
		Func("a", "", func(context.Context, struct{ C chan int }) (string, error) { return "", nil }),
	} {
		var invalid *ErrInvalid
		_, _, err := collect(t, Config{Engine: &script{}, Tools: []Tool{tool}})
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, "Tools[0]", invalid.Field)
	}
}

func TestToolPanics(t *testing.T) {
	cause := errors.New("cause")
	tool := Func("a", "", func(context.Context, struct{}) (string, error) { panic(cause) })
	events, done, err := collect(t, Config{Engine: &script{replies: []reply{{tool: "a", args: "{}"}}}, Tools: []Tool{tool}, NoBash: true})
	var panicked *ErrPanic
	require.ErrorAs(t, err, &panicked)
	require.ErrorIs(t, err, cause)
	require.Equal(t, "a", panicked.Tool)
	require.Contains(t, string(panicked.Stack), "TestToolPanics")
	require.Equal(t, err, results(events)[0].Err)
	require.Equal(t, 1, done.Usage.Calls)
}
