package llama

// maxSchema is the size of the largest JSON schema that is translated.
const maxSchema = 256 << 10

func checkSchema(schema []byte) error {
	if len(schema) > maxSchema {
		return errorf(ErrInvalidSchema, "the JSON schema has %d bytes, at most %d are allowed", len(schema), maxSchema)
	}
	if err := checkJSON(schema); err != nil {
		return errorf(ErrInvalidSchema, "JSON schema: %v", err)
	}
	return nil
}
