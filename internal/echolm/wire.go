package echolm

import "strconv"

// wire writes answers in the format of one endpoint. All methods append to dst.
type wire interface {
	whole(dst []byte, x *exchange, u usage) []byte // a body that is not streamed
	open(dst []byte, x *exchange) []byte           // events before the first delta
	delta(dst []byte, x *exchange, piece string) []byte
	close(dst []byte, x *exchange, u usage) []byte // events behind the last delta
}

// fingerprint reports in every answer what answered.
const fingerprint = `"model":"echo","system_fingerprint":"dspex-echo"`

func appendID(dst []byte, prefix string, x *exchange) []byte {
	dst = append(append(dst, `{"id":"`...), prefix...)
	return append(strconv.AppendUint(dst, x.number, 10), `",`...)
}

func appendUsage(dst []byte, prompt, completion string, u usage) []byte {
	dst = append(append(append(dst, `{"`...), prompt...), `":`...)
	dst = strconv.AppendInt(dst, int64(u.prompt), 10)
	dst = append(append(append(dst, `,"`...), completion...), `":`...)
	dst = strconv.AppendInt(dst, int64(u.completion), 10)
	dst = append(dst, `,"total_tokens":`...)
	return append(strconv.AppendInt(dst, int64(u.prompt+u.completion), 10), '}')
}

// chatWire is POST /chat/completions.
type chatWire struct{}

func (chatWire) whole(dst []byte, x *exchange, u usage) []byte {
	dst = append(appendID(dst, "chatcmpl-echo-", x), `"object":"chat.completion","created":0,`+fingerprint+`,"choices":[`...)
	for i := range x.c.choices {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(append(dst, `{"index":`...), int64(i), 10)
		dst = append(dst, `,"message":{"role":"assistant","content":`...)
		dst = appendQuoted(dst, x.a.content)
		dst = append(appendCall(dst, x), `},"logprobs":null,"finish_reason":`...)
		dst = append(appendQuoted(dst, x.finish()), '}')
	}
	dst = append(dst, ']')
	if !x.script.NoUsage {
		dst = appendUsage(append(dst, `,"usage":`...), "prompt_tokens", "completion_tokens", u)
	}
	return append(dst, '}')
}

// appendCall appends the key tool_calls if the answer calls a tool.
func appendCall(dst []byte, x *exchange) []byte {
	if x.a.call == "" {
		return dst
	}
	dst = strconv.AppendUint(append(dst, `,"tool_calls":[{"index":0,"id":"call_echo_`...), x.number, 10)
	dst = appendQuoted(append(dst, `","type":"function","function":{"name":`...), x.a.call)
	dst = appendQuoted(append(dst, `,"arguments":`...), x.a.callArgs)
	return append(dst, "}}]"...)
}

func (w chatWire) chunk(dst []byte, x *exchange, choices string) []byte {
	dst = appendID(append(dst, "data: "...), "chatcmpl-echo-", x)
	return append(append(dst, `"object":"chat.completion.chunk","created":0,`+fingerprint+`,"choices":[`...), choices...)
}

func (w chatWire) open(dst []byte, x *exchange) []byte {
	return append(w.chunk(dst, x, `{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`), "\n\n"...)
}

func (w chatWire) delta(dst []byte, x *exchange, piece string) []byte {
	dst = appendQuoted(w.chunk(dst, x, `{"index":0,"delta":{"content":`), piece)
	return append(dst, "},\"finish_reason\":null}]}\n\n"...)
}

func (w chatWire) close(dst []byte, x *exchange, u usage) []byte {
	if x.a.call != "" {
		dst = appendCall(w.chunk(dst, x, `{"index":0,"delta":{"content":null`), x)
		dst = append(dst, "},\"finish_reason\":null}]}\n\n"...)
	}
	dst = appendQuoted(w.chunk(dst, x, `{"index":0,"delta":{},"finish_reason":`), x.finish())
	dst = append(dst, "}]}\n\n"...)
	if x.c.includeUsage && !x.script.NoUsage {
		dst = appendUsage(w.chunk(dst, x, `],"usage":`), "prompt_tokens", "completion_tokens", u)
		dst = append(dst, "}\n\n"...)
	}
	return append(dst, "data: [DONE]\n\n"...)
}

// completionWire is POST /completions.
type completionWire struct{}

func (completionWire) whole(dst []byte, x *exchange, u usage) []byte {
	dst = append(appendID(dst, "cmpl-echo-", x), `"object":"text_completion","created":0,`+fingerprint+`,"choices":[`...)
	for i := range x.c.choices {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(append(dst, `{"index":`...), int64(i), 10)
		dst = appendQuoted(append(dst, `,"text":`...), x.a.content)
		dst = append(appendQuoted(append(dst, `,"logprobs":null,"finish_reason":`...), x.finish()), '}')
	}
	dst = append(dst, ']')
	if !x.script.NoUsage {
		dst = appendUsage(append(dst, `,"usage":`...), "prompt_tokens", "completion_tokens", u)
	}
	return append(dst, '}')
}

func (completionWire) open(dst []byte, _ *exchange) []byte { return dst }

func (completionWire) delta(dst []byte, x *exchange, piece string) []byte {
	dst = appendID(append(dst, "data: "...), "cmpl-echo-", x)
	dst = append(dst, `"object":"text_completion","created":0,`+fingerprint+`,"choices":[{"index":0,"text":`...)
	return append(appendQuoted(dst, piece), ",\"finish_reason\":null}]}\n\n"...)
}

func (completionWire) close(dst []byte, x *exchange, u usage) []byte {
	dst = appendID(append(dst, "data: "...), "cmpl-echo-", x)
	dst = append(dst, `"object":"text_completion","created":0,`+fingerprint+`,"choices":[{"index":0,"text":"","finish_reason":`...)
	dst = append(appendQuoted(dst, x.finish()), "}]"...)
	if x.c.includeUsage && !x.script.NoUsage {
		dst = appendUsage(append(dst, `,"usage":`...), "prompt_tokens", "completion_tokens", u)
	}
	return append(dst, "}\n\ndata: [DONE]\n\n"...)
}

// responsesWire is POST /responses, of which it has what a text needs.
type responsesWire struct{}

// body writes a response object with the given status; an unfinished one has no output.
func (responsesWire) body(dst []byte, x *exchange, finished bool, u usage) []byte {
	dst = append(appendID(dst, "resp_echo_", x), `"object":"response","created_at":0,`+fingerprint+`,"status":`...)
	if !finished {
		return append(dst, `"in_progress","output":[]}`...)
	}
	status, details := `"completed"`, "null"
	switch x.finish() {
	case "length":
		status, details = `"incomplete"`, `{"reason":"max_output_tokens"}`
	case "content_filter":
		status, details = `"incomplete"`, `{"reason":"content_filter"}`
	}
	dst = append(append(append(append(dst, status...), `,"incomplete_details":`...), details...), `,"output":[{"id":"msg_echo","type":"message","role":"assistant","status":"completed","content":[`...)
	dst = append(appendQuoted(append(dst, `{"type":"output_text","annotations":[],"text":`...), x.a.content), `}]}]`...)
	if !x.script.NoUsage {
		dst = appendUsage(append(dst, `,"usage":`...), "input_tokens", "output_tokens", u)
	}
	return append(dst, '}')
}

func (w responsesWire) whole(dst []byte, x *exchange, u usage) []byte { return w.body(dst, x, true, u) }

func (w responsesWire) open(dst []byte, x *exchange) []byte {
	dst = append(dst, "event: response.created\ndata: {\"type\":\"response.created\",\"response\":"...)
	return append(w.body(dst, x, false, usage{}), "}\n\n"...)
}

func (responsesWire) delta(dst []byte, _ *exchange, piece string) []byte {
	dst = append(dst, "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_echo\",\"output_index\":0,\"content_index\":0,\"delta\":"...)
	return append(appendQuoted(dst, piece), "}\n\n"...)
}

func (w responsesWire) close(dst []byte, x *exchange, u usage) []byte {
	dst = append(dst, "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":"...)
	return append(w.body(dst, x, true, u), "}\n\n"...)
}
