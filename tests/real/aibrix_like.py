"""An upstream that behaves like an Aibrix gateway where that differs from plain vLLM. Standard library only.

    aibrix_like.py PORT

* an unknown model: 400 with the code `model_not_found`
* `limited`: 429 without `retry-after`; `broken`: 503
* a stream without `stream_options.include_usage`: 400
* errors carry no content type
* every answer carries routing headers: `target-pod`, `x-went-into-req-headers`, `x-update-*`, `x-error-*` on errors

`GET /seen` repeats the headers and the body of the last request.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TARGET_POD = "10.0.0.7:8000"
KNOWN_MODELS = ("known", "limited", "broken")
PROMPT_TOKENS = 11
MAX_OUTPUT_TOKENS = 6
MAX_BODY = 1 << 20


class Gateway(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = {}

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path in ("/seen", "/health"):
            self.answer(200, json.dumps(Gateway.seen).encode(), {"content-type": "application/json"})
        else:
            self.refuse(404, "not_found", "no such route", "x-error-routing")

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        if not 0 < length <= MAX_BODY:
            self.close_connection = True
            return self.refuse(400, "invalid_request", "no body", "x-error-request-body-processing")
        body = json.loads(self.rfile.read(length))
        Gateway.seen = {"headers": {k.lower(): v for k, v in self.headers.items()}, "body": body}
        model = body.get("model")
        if model not in KNOWN_MODELS:
            return self.refuse(400, "model_not_found", f"model {model} does not exist", "x-error-no-model-backends")
        if model == "limited":
            return self.refuse(429, "rate_limit_exceeded", "requests per minute exceeded", "x-error-rpm-exceeded")
        if model == "broken":
            return self.refuse(503, "no_ready_pods", "no ready pods", "x-error-routing")
        tokens = min(body.get("max_tokens") or MAX_OUTPUT_TOKENS, MAX_OUTPUT_TOKENS)
        if not body.get("stream"):
            return self.whole(model, tokens)
        if not (body.get("stream_options") or {}).get("include_usage"):
            header = "x-error-no-stream-options-include-usage"
            return self.refuse(400, "invalid_request", "stream_options.include_usage must be true", header)
        self.stream(model, tokens)

    def refuse(self, status, code, message, header):
        error = {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}}
        self.answer(status, json.dumps(error).encode(), {header: "true"})

    def whole(self, model, tokens):
        body = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": " ".join(["word"] * tokens)},
                    "finish_reason": "stop",
                }
            ],
            "usage": usage(tokens),
        }
        self.answer(200, json.dumps(body).encode(), {"content-type": "application/json"})

    def stream(self, model, tokens):
        self.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        for _ in range(tokens):
            choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
            self.event(json.dumps(chunk | {"choices": [choice]}))
        self.event(json.dumps(chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        self.event(json.dumps(chunk | {"choices": [], "usage": usage(tokens)}))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, data):
        payload = f"data: {data}\n\n".encode()
        self.wfile.write(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")
        self.wfile.flush()

    def answer(self, status, body, headers):
        self.head(status, headers | {"content-length": str(len(body))})
        self.wfile.write(body)

    def head(self, status, headers):
        self.send_response(status)
        routing = {
            "target-pod": TARGET_POD,
            "x-went-into-req-headers": "true",
            "x-update-rpm": "true",
            "x-update-tpm": "true",
        }
        for name, value in (routing | headers).items():
            self.send_header(name, value)
        self.end_headers()


def usage(tokens):
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": tokens,
        "total_tokens": PROMPT_TOKENS + tokens,
    }


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Gateway).serve_forever()
