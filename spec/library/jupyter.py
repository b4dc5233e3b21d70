"""Drives the kernel as a notebook does. On stdin lines of JSON say what to do; an answer each."""
import json
import sys
import time

from jupyter_client.manager import KernelManager

manager = KernelManager(kernel_name="moongrad")
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)


def run(code, interrupt):
    """What the cell shows, in order, and how it ended."""
    sent = client.execute(code)
    shown, began = [], time.time()
    while True:
        try:
            message = client.get_iopub_msg(timeout=0.2)
        except Exception:
            if time.time() - began > 60:
                raise
            continue
        if message["parent_header"].get("msg_id") != sent:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            break
        if kind == "stream":
            if interrupt and "now" in content["text"]:
                manager.interrupt_kernel()
            if shown and shown[-1][0] == content["name"]:
                shown[-1][1] += content["text"]
            else:
                shown.append([content["name"], content["text"]])
        elif kind == "execute_result":
            shown.append(["result", content["data"]["text/plain"]])
        elif kind == "display_data":
            data = content["data"]
            mime = next(m for m in data if m.startswith("image"))
            shown.append([mime, data[mime][:12]])
        elif kind == "error":
            shown.append(["error", "\n".join(content["traceback"])])
    while True:
        reply = client.get_shell_msg(timeout=60)
        if reply["parent_header"].get("msg_id") == sent:
            return {"shown": shown, "status": reply["content"]["status"]}


def reply_to(sent):
    while True:
        reply = client.get_shell_msg(timeout=60)
        if reply["parent_header"].get("msg_id") == sent:
            return reply["content"]


for line in sys.stdin:
    t = json.loads(line)
    code = t["code"]
    if t["do"] == "complete":
        answer = reply_to(client.complete(code, len(code)))
    elif t["do"] == "inspect":
        answer = reply_to(client.inspect(code, len(code)))
    elif t["do"] == "whole":
        answer = reply_to(client.is_complete(code))
    else:
        answer = run(code, t["do"] == "interrupt")
    print(json.dumps(answer), flush=True)
client.stop_channels()
manager.shutdown_kernel(now=False)
