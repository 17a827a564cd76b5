package llama

// Token is the id of one entry of a vocabulary (llama_token).
type Token int32

// NullToken is no token (LLAMA_TOKEN_NULL): what BOS and the like give where a vocabulary has none.
const NullToken Token = -1

// Pos is a position within a sequence (llama_pos).
type Pos int32

// maxPos keeps llama.cpp's sums of positions within 32 bits.
const maxPos = 1 << 30

// SeqID names a sequence of a context, from 0 to NSeqMax-1 (llama_seq_id).
type SeqID int32
