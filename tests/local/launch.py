#!/usr/bin/env python3
"""Starts ministack as the local AWS of the stories and the demo. What differs from `ministack` itself:

- PutEvents takes `aws.*` sources, because somebody has to play the part of ECR and Inspector, and keeps an entry's `Time` as AWS
  does; `Id`, `Account` and `Region` may be given, for an event that comes twice and for one that comes from elsewhere.
- Answers to CloudFormation go to the scan plane (PLANE_PORT), which checks them before it passes them on. It is told of every
  request first, so that it knows what a right answer looks like.
- CloudFormation invokes a function asynchronously, as on AWS: it is tried again when it fails, then goes to its on-failure queue.
- One-time schedules are looked at every second instead of every ten.
- A queue whose function has failed is asked again a tenth of a second later instead of a second: what failed is hidden for seconds anyway,
  and what stands behind it does not wait for every one of those who are killed on purpose.
- A change of a function ends its running copies in its own account alone.
- A function's code is looked up in CODE_DIR when no bucket holds it: one copy for all accounts.
- It ends, with every function it runs, as soon as whoever holds its standard input is gone, however that happened.

Pinned to ministack 1.5.33: it leans on private names, and says so when one is missing.
"""
import json
import os
import signal
import sys
import threading
import urllib.request

import ministack.services.cloudformation.custom_resource as custom_resource
import ministack.services.eventbridge as eventbridge
import ministack.services.lambda_svc as lambda_svc
import ministack.services.scheduler as scheduler
from ministack.app import main
from ministack.core.responses import get_account_id, get_region, json_response, new_uuid

LEANED_ON = (
    (eventbridge, "_put_events"), (eventbridge, "_dispatch_event"), (eventbridge, "_now_ts"), (custom_resource, "_PORT"), (lambda_svc, "invoke_async_with_retry"),
    (lambda_svc, "_execute_function_with_config_scope"), (lambda_svc, "_fetch_code_from_s3"), (lambda_svc, "invalidate_worker"), (scheduler, "_SCHEDULE_TICK_INTERVAL"),
    (lambda_svc, "_ESM_BACKOFF_SECONDS"),
)
for module, name in LEANED_ON:
    assert hasattr(module, name), f"ministack changed: {module.__name__} has no {name}; see launch.py"

PLANE = f"http://127.0.0.1:{os.environ['PLANE_PORT']}"
CODE_DIR = os.environ.get("CODE_DIR", "")
put_events, invoke_now, fetch_code = eventbridge._put_events, lambda_svc._execute_function_with_config_scope, lambda_svc._fetch_code_from_s3
end_workers = lambda_svc.invalidate_worker


def put_events_of_aws_too(data, allow_aws_source=False):
    entries = data.get("Entries", [])
    if not any(str(entry.get("Source", "")).startswith("aws.") for entry in entries):
        return put_events(data, allow_aws_source)
    answered = []
    for entry in entries:
        json.loads(entry["Detail"])
        event = {
            "EventId": entry.get("Id") or new_uuid(), "Source": entry["Source"], "DetailType": entry["DetailType"], "Detail": entry["Detail"],
            "EventBusName": "default", "Time": int(entry.get("Time") or eventbridge._now_ts()), "Resources": entry.get("Resources", []),
            "Account": entry.get("Account") or get_account_id(), "Region": entry.get("Region") or get_region(),
        }
        eventbridge._dispatch_event(event)
        answered.append({"EventId": event["EventId"]})
    return json_response({"FailedEntryCount": 0, "Entries": answered})


def invoke_as_cloudformation_does(function, event):
    if not (isinstance(event, dict) and "ResponseURL" in event and "RequestType" in event):
        return invoke_now(function, event)
    told = urllib.request.Request(f"{PLANE}/_plane/request", json.dumps(event).encode(), {"content-type": "application/json"})
    urllib.request.urlopen(told, timeout=10).close()
    lambda_svc.invoke_async_with_retry(function, event)
    return {}


def fetch_code_from_bucket_or_folder(bucket, key, version_id=None):
    path = os.path.join(CODE_DIR, os.path.basename(key))
    if CODE_DIR and os.path.isfile(path):
        with open(path, "rb") as file:
            return file.read()
    return fetch_code(bucket, key, version_id=version_id)


def end_workers_of_one_account(function, qualifier=None, account=None, region=None):
    # Without this a change of one account's function ends the running functions of that name in all the others.
    end_workers(function, qualifier=qualifier, account=account or get_account_id(), region=region or get_region())


def end_with_the_starter():
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


assert os.getpgrp() == os.getpid(), "launch.py ends its whole process group: start it in one of its own"
eventbridge._put_events = put_events_of_aws_too
lambda_svc._execute_function_with_config_scope = invoke_as_cloudformation_does
lambda_svc._fetch_code_from_s3 = fetch_code_from_bucket_or_folder
lambda_svc.invalidate_worker = end_workers_of_one_account
custom_resource._PORT = os.environ["PLANE_PORT"]
scheduler._SCHEDULE_TICK_INTERVAL = 1
lambda_svc._ESM_BACKOFF_SECONDS = 0.1
threading.Thread(target=end_with_the_starter, daemon=True).start()
sys.argv[1:] = []
main()
