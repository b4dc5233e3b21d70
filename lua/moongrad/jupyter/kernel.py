"""The Jupyter kernel of moongrad: Lua runs in a process of its own (init.lua beside this file).

    python kernel.py install [--prefix DIR]    for the user, or into a Python environment

It needs ipykernel, and the lua5.4 that MOONGRAD_LUA names, found by LUA_PATH_5_4 as ever.
"""
import json
import os
import selectors
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MIME = {"png": "image/png", "svg": "image/svg+xml"}


def install(arguments):
    """Says to Jupyter how to start this: kernel.json in a folder of the user's, or of a prefix."""
    import tempfile
    from jupyter_client.kernelspec import KernelSpecManager

    where = {"prefix": arguments[1]} if arguments[:1] == ["--prefix"] else {"user": True}
    names = ("LUA_PATH_5_4", "LUA_CPATH_5_4", "MOONGRAD_LUA")
    spec = {
        "argv": [sys.executable, os.path.join(HERE, "kernel.py"), "-f", "{connection_file}"],
        "display_name": "Lua (moongrad)",
        "language": "lua",
        "env": {name: os.environ[name] for name in names if name in os.environ},
    }
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "kernel.json"), "w") as file:
            json.dump(spec, file, indent=1)
        print("kernel moongrad is in",
              KernelSpecManager().install_kernel_spec(folder, "moongrad", **where))


class Lua:
    """The process, what it prints and what it answers."""

    def __init__(self):
        requests, self.requests = os.pipe()
        self.answers, answers = os.pipe()
        environment = dict(os.environ, MOONGRAD_REQUESTS=str(requests),
                           MOONGRAD_ANSWERS=str(answers))
        # a session of its own: an interrupt reaches it through us alone, when it runs something
        self.process = subprocess.Popen(
            [os.environ.get("MOONGRAD_LUA", "lua5.4"), "-e", 'require "moongrad.jupyter"'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            pass_fds=(requests, answers), start_new_session=True, env=environment)
        os.close(requests)
        os.close(answers)
        self.rest = b""
        self.streams = {"stdout": self.process.stdout.fileno(),
                        "stderr": self.process.stderr.fileno()}
        self.held = {"stdout": b"", "stderr": b""}
        self.selector = selectors.DefaultSelector()
        for fd in (*self.streams.values(), self.answers):
            os.set_blocking(fd, False)
            self.selector.register(fd, selectors.EVENT_READ)

    def close(self):
        """The exit status, once it has ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.selector.close()
        os.close(self.requests)
        os.close(self.answers)
        self.process.stdout.close()
        self.process.stderr.close()
        return self.process.returncode

    def print(self, show):
        """Shows what stdout and stderr have; a character is never cut in two."""
        for name, fd in self.streams.items():
            data = self.held[name]
            while True:
                try:
                    more = os.read(fd, 1 << 16)
                except BlockingIOError:
                    break
                if not more:
                    break
                data += more
            whole = len(data)
            for back in range(1, min(4, whole) + 1):
                byte = data[whole - back]
                if byte >= 0xC0:
                    if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4):
                        whole -= back
                    break
                if byte < 0x80:
                    break
            self.held[name] = data[whole:]
            if data[:whole]:
                show(name, data[:whole].decode("utf-8", "replace"))

    def lines(self):
        """The answers that are there; None: there will be no more."""
        while True:
            try:
                more = os.read(self.answers, 1 << 16)
            except BlockingIOError:
                break
            if not more:
                return None
            self.rest += more
        *lines, self.rest = self.rest.split(b"\n")
        return [json.loads(line.decode("utf-8", "replace")) for line in lines]

    def ask(self, request, show, display):
        """The answer, or None if the process ended. What it shows meanwhile goes to the functions.

        A child of it may hold its pipes open: that it has ended they do not tell then.
        """
        try:
            os.write(self.requests, json.dumps(request, ensure_ascii=False).encode() + b"\n")
        except BrokenPipeError:
            return None
        while True:
            try:
                self.selector.select(0.5)
                ended = self.process.poll() is not None
                self.print(show)
                lines = self.lines()
                if lines is None or ended and not lines:
                    self.print(show)
                    return None
                for line in lines:
                    self.print(show)
                    if "display" not in line:
                        return line
                    display(line["display"], line["kind"])
            except KeyboardInterrupt:              # with the programs it runs, as at a terminal
                os.killpg(self.process.pid, signal.SIGINT)


def make_kernel():
    from ipykernel.kernelbase import Kernel

    class MoongradKernel(Kernel):
        implementation = "moongrad"
        implementation_version = "1"
        banner = "moongrad: mg is here; name? is help"
        language_info = {"name": "lua", "mimetype": "text/x-lua", "file_extension": ".lua",
                         "pygments_lexer": "lua", "codemirror_mode": "lua", "version": "5.4"}

        def __init__(self, **given):
            super().__init__(**given)
            self.lua = Lua()

        def show(self, name, text):
            self.send_response(self.iopub_socket, "stream", {"name": name, "text": text})

        def display(self, data, kind):
            self.send_response(self.iopub_socket, "display_data",
                               {"data": {MIME[kind]: data, "text/plain": "a picture"},
                                "metadata": {}})

        def ask(self, silent, **request):
            def nothing(*_):
                pass
            return self.lua.ask(request, nothing if silent else self.show,
                                nothing if silent else self.display)

        def failed(self, silent, message):
            head, _, rest = message.partition("\n")
            content = {"ename": "error", "evalue": head, "traceback": message.split("\n")}
            if not silent:
                self.send_response(self.iopub_socket, "error", content)
            return {"status": "error", "execution_count": self.execution_count, **content}

        def do_execute(self, code, silent, store_history=True, user_expressions=None,
                       allow_stdin=False, *, cell_meta=None, cell_id=None):
            done = {"status": "ok", "execution_count": self.execution_count, "payload": [],
                    "user_expressions": {}}
            asked = code.strip()
            if "\n" not in asked and (asked.startswith("?") or asked.endswith("?")):
                name = asked.strip("?").strip() or "mg"
                answer = self.ask(silent, ask="help", name=name)
                text = answer and answer["text"] or "nothing is known of " + name
                if not silent:
                    self.show("stdout", text + "\n")
                return done
            if not asked:
                return done
            answer = self.ask(silent, ask="run", code=code, count=self.execution_count)
            if answer is None:
                status = self.lua.close()
                self.lua = Lua()
                return self.failed(silent, f"Lua has ended (status {status}) and was started anew")
            if "error" in answer:
                return self.failed(silent, answer["error"])
            if answer["shown"] and not silent:
                self.send_response(self.iopub_socket, "execute_result",
                                   {"execution_count": self.execution_count, "metadata": {},
                                    "data": {"text/plain": answer["text"]}})
            return done

        def do_complete(self, code, cursor_pos):
            text = code[:cursor_pos]
            answer = self.ask(True, ask="complete", text=text) or {"words": [], "start": 1}
            start = len(text.encode()[:answer["start"] - 1].decode("utf-8", "replace"))
            return {"status": "ok", "matches": answer["words"], "cursor_start": start,
                    "cursor_end": cursor_pos, "metadata": {}}

        def do_inspect(self, code, cursor_pos, detail_level=0, omit_sections=()):
            import re
            before = re.search(r"[\w.:\[\]]*$", code[:cursor_pos]).group()
            if not before and code[:cursor_pos].rstrip().endswith("("):
                before = re.search(r"[\w.:\[\]]*$", code[:cursor_pos].rstrip()[:-1]).group()
            name = before + re.match(r"\w*", code[cursor_pos:]).group()
            answer = self.ask(True, ask="help", name=name) if name else None
            found = bool(answer and answer["text"])
            return {"status": "ok", "found": found, "metadata": {},
                    "data": {"text/plain": answer["text"]} if found else {}}

        def do_is_complete(self, code):
            answer = self.ask(True, ask="whole", code=code) or {"status": "unknown"}
            return {"status": answer["status"], "indent": "  "}

        def do_shutdown(self, restart):
            self.lua.close()
            return {"status": "ok", "restart": restart}

    return MoongradKernel


if __name__ == "__main__":
    if sys.argv[1:2] == ["install"]:
        install(sys.argv[2:])
    else:
        from ipykernel.kernelapp import IPKernelApp
        IPKernelApp.launch_instance(kernel_class=make_kernel())
