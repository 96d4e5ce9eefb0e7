"""The AWS of a run, in a process of its own: DynamoDB, ECR, Inspector, SQS, S3 and the ResponseURL, each at a port of its own as each
has a host of its own on AWS. It answers by https, every call after the same time, and notes when each came and went.

    stand_in.py CERTIFICATE KEY LATENCY_MS: prints its ports as JSON. Ends when its standard input does. Told what to do by plain HTTP.
"""
import hashlib
import io
import json
import ssl
import sys
import threading
import time
import uuid

import scanners
import tables
import wire

TABLES = {
    "ecr-scan-verifier-main-verdicts": ("digest", "item"),
    "ecr-scan-verifier-main-requests": ("key", "sort"),
    "ecr-scan-verifier-main-deployments": ("stack", "row"),
}
SERVICES = ("dynamodb", "ecr", "inspector2", "sqs", "s3", "answers", "others")
INSPECTOR = {"/coverage/list": "ListCoverage"}


class StandIn:
    def __init__(self, latency_ms):
        self.latency_ns = int(latency_ms * 1e6)
        self.tables, self.scanners = tables.Tables(TABLES), scanners.Scanners()
        self.objects, self.calls, self.lock = {}, [], threading.Lock()

    def answers_for(self, service):
        """How the connections of a service are answered."""

        def answer(connection, request):
            received = time.monotonic_ns()
            operation, status, body = self.carry_out(service, request)
            if not isinstance(body, bytes):
                body = json.dumps(body).encode()
            # The work is part of the latency, as it is on AWS.
            time.sleep(max(0, received + self.latency_ns - time.monotonic_ns()) / 1e9)
            call = {"service": service, "operation": operation, "came": request.at, "left": time.monotonic_ns(), "status": status, "target": request.target}
            with self.lock:
                self.calls.append(call)
            kind = "application/x-amz-json-1.0" if service in ("dynamodb", "sqs") else "application/x-amz-json-1.1"
            wire.write_answer(connection, status, body, [("content-type", kind), ("x-amzn-requestid", str(uuid.uuid4()))])

        return answer

    def carry_out(self, service, request):
        operation = request.headers.get("x-amz-target", request.method).rsplit(".", 1)[-1]
        if service == "answers":
            return "PutAnswer", 200, b""
        if service == "s3":
            return self.s3(request)
        if "x-bench-floor" in request.headers:  # the floor's calls are weighed, not understood
            return operation, 200, b"{}" if operation != "GetItem" else b"{" + b" " * 3500 + b"}"
        call = json.loads(request.body or b"{}")
        if service == "dynamodb":
            try:
                return operation, 200, self.tables.answer(operation, call)
            except tables.Refused as refused:
                return operation, 400, {"__type": f"com.amazonaws.dynamodb.v20120810#{refused.kind}", **refused.more}
        if service == "sqs":
            return operation, 200, {"MessageId": str(uuid.uuid4()), "MD5OfMessageBody": hashlib.md5(call.get("MessageBody", "").encode()).hexdigest()}
        operation = INSPECTOR.get(request.target, operation)
        answered = self.scanners.answer(operation, call)
        if not answered:
            print(f"nobody here knows {service} {operation} {request.target}", file=sys.stderr, flush=True)
            answered = 400, {"__type": "AccessDeniedException", "message": "not in this stand-in"}
        return operation, *answered

    def s3(self, request):
        key = request.target.split("?")[0]
        if request.method == "GET":
            return ("GetObject", 200, self.objects[key]) if key in self.objects else ("GetObject", 404, b"<Error><Code>NoSuchKey</Code></Error>")
        body = request.body
        if "aws-chunked" in request.headers.get("content-encoding", ""):
            body = wire.read_chunks(io.BytesIO(body))
        self.objects[key] = body
        return "PutObject", 200, b""

    def told(self, connection, request):
        """What the harness wants."""
        said = json.loads(request.body or b"null")
        if request.target == "/calls":  # since the last time
            with self.lock:
                answer, self.calls = self.calls, []
        elif request.target == "/says":
            answer = self.scanners.says(said["image"], said["findings"])
        elif request.target == "/rows":
            answer = list(self.tables.rows[said["table"]].values())
        wire.write_answer(connection, 200, json.dumps(answer).encode())


def main():
    certificate, key, latency_ms = sys.argv[1:]
    stand_in, tls, ports = StandIn(float(latency_ms)), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), {}
    tls.load_cert_chain(certificate, key)
    for service in SERVICES:
        listener, ports[service] = wire.listen()
        wire.serve(listener, stand_in.answers_for(service), tls)
    listener, ports["told"] = wire.listen()
    wire.serve(listener, stand_in.told)
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
