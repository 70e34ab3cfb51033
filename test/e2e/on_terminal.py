"""Runs a command on a terminal of its own, and types on it. Node has no pseudo terminals.

stdin: {"argv": [...], "env": {...}, "cwd": "...", "limit_s": seconds, "steps": [...]}, where a step waits for one thing or does one:
    {"see": text}       until this was written, behind what the last "see" found
    {"raw": true}       until the terminal is in raw mode, or is not any more
    {"type": text}      {"signal": "SIGTERM"}
stdout: {"code": exit code or null, "signal": name or null, "output": text, "stuck": step or null, "restored": bool,
"cursor": whether it is shown}. A command that is still there after limit_s is killed.
"""
import fcntl, json, os, pty, select, signal, struct, sys, termios, time

ROWS, COLUMNS = 24, 80

task = json.load(sys.stdin)
master, terminal = pty.openpty()
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
before = termios.tcgetattr(terminal)
child = os.fork()
if child == 0:
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for descriptor in range(3):
        os.dup2(terminal, descriptor)
    os.closerange(3, 64)
    os.chdir(task["cwd"])
    os.execvpe(task["argv"][0], task["argv"], task["env"])

output, seen, status = b"", 0, None
end = time.monotonic() + task["limit_s"]


def pump():
    """Reads what is there, and notices the end. Whether there is anything to wait for any more."""
    global output, status
    if select.select([master], [], [], 0.02)[0]:
        output += os.read(master, 65536)
    elif status is not None:
        return False
    if status is None:
        pid, found = os.waitpid(child, os.WNOHANG)
        status = found if pid else None
    return time.monotonic() < end


def wait(condition):
    while not condition():
        if not pump():
            return condition()
    return True


def find(text):
    global seen
    at = output.find(text, seen)
    seen = seen if at < 0 else at + len(text)
    return at >= 0


def is_raw():
    return not termios.tcgetattr(terminal)[3] & termios.ICANON


stuck = None
for step in task["steps"]:
    if "see" in step and not wait(lambda: find(step["see"].encode())) or "raw" in step and not wait(lambda: is_raw() == step["raw"]):
        stuck = step
        break
    if "type" in step:
        os.write(master, step["type"].encode())
    if "signal" in step:
        os.kill(child, getattr(signal, step["signal"]))
while stuck is None and pump():
    pass
if status is None:
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    stuck = stuck or "did not end"
killed = os.WIFSIGNALED(status)
print(json.dumps({
    "code": None if killed else os.WEXITSTATUS(status),
    "signal": signal.Signals(os.WTERMSIG(status)).name if killed else None,
    "output": output.decode(errors="replace").replace("\r\n", "\n"),
    "stuck": stuck,
    "restored": termios.tcgetattr(terminal) == before,
    "cursor": output.rfind(b"\x1b[?25l") <= output.rfind(b"\x1b[?25h"),
}))
