"""The workshop of scripts/farm: network namespaces, and programs in them."""

import ctypes
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
PR_SET_PDEATHSIG = 1
PATIENCE = 20  # seconds for what has to come: many times what it takes, for a busy machine
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failed(Exception):
    """What should have happened did not; says what."""


def enter_own_namespaces():
    """Goes on in a child that has a network, mounts and process ids of its own.

    However the child ends, all that it started and made ends with it.
    """
    user, group = os.geteuid(), os.getegid()
    own = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | (CLONE_NEWUSER if user else 0)
    if LIBC.unshare(own) != 0:
        sys.exit(
            f"farm: FAILED: cannot make network namespaces here: {os.strerror(ctypes.get_errno())}\n"
            "  help: run as root (in a container: with CAP_SYS_ADMIN), or allow user "
            "namespaces (sysctl user.max_user_namespaces)"
        )
    if user:  # be root among what is ours
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    child = os.fork()
    if child:
        for number in ENDING:
            signal.signal(number, lambda number, _: os.kill(child, number))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.exit(code if code >= 0 else 128 - code)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "farm", "/run")  # ip keeps its names there


def end_after(seconds):
    """Ends with an error, and with the cleaning up, at a signal or when it is late."""
    def stop(number, _):
        for other in (*ENDING, signal.SIGALRM):
            signal.signal(other, signal.SIG_IGN)  # once is enough
        why = f"not done within {seconds} s" if number == signal.SIGALRM else "interrupted"
        sys.exit(f"farm: FAILED: {why}")

    for number in (*ENDING, signal.SIGALRM):
        signal.signal(number, stop)
    signal.alarm(seconds)


def run(*command):
    """Runs a short command to its end; its output."""
    words = " ".join(map(str, command))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failed(f"{words}: takes longer than {PATIENCE} s") from None
    if done.returncode != 0:
        raise Failed(f"{words}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def until(what, condition):
    """Waits until `condition` gives something true, and gives it on."""
    end = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"not within {PATIENCE} s: {what}")
        time.sleep(0.05)


def namespaces(*names):
    for name in names:
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")


def cable(near, far):
    """Connects two ends, each `(namespace, interface, address or None)`."""
    (a, a_end, _), (b, b_end, _) = near, far
    run("ip", "link", "add", a_end, "netns", a, "type", "veth", "peer", "name", b_end, "netns", b)
    for name, end, address in (near, far):
        if address:
            run("ip", "-n", name, "address", "add", address, "dev", end)
        run("ip", "-n", name, "link", "set", end, "up")


def switch(name, interface, address, ports):
    """Joins `ports` of a namespace to one network, and it to that by `address`."""
    run("ip", "-n", name, "link", "add", interface, "type", "bridge")
    for port in ports:
        run("ip", "-n", name, "link", "set", port, "master", interface)
    run("ip", "-n", name, "address", "add", address, "dev", interface)
    run("ip", "-n", name, "link", "set", interface, "up")


def default_route(name, via):
    run("ip", "-n", name, "route", "add", "default", "via", via)


def forward(name):
    """Makes a router of a namespace."""
    run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ip_forward=1")


class Program:
    """A program in a namespace, with a log."""

    running = []

    def __init__(self, namespace, name, *command):
        self.name = name
        self.log = Path("logs", f"{name}.log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        Program.running.append(self)

    def said(self):
        return self.log.read_text(errors="replace")

    def until_said(self, text):
        def found():
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended:\n{self.said()}")
            return text in self.said()
        until(f"{self.name} says “{text}”", found)

    def signal(self, number):
        self.process.send_signal(number)

    def finish(self, seconds=PATIENCE):
        """Waits for its end; fails unless that is a good one."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} takes longer than {seconds} s") from None
        if code != 0:
            raise Failed(f"{self.name} ended with {code}")

    @classmethod
    def end_all(cls):
        for program in cls.running:
            if program.process.poll() is None:
                program.signal(signal.SIGTERM)
        for program in cls.running:
            try:
                program.process.wait(3)
            except subprocess.TimeoutExpired:
                program.process.kill()
                program.process.wait()


class Sipp(Program):
    """sipp with one of the scenarios beside this file."""

    def __init__(self, namespace, name, scenario, address, *options):
        self.statistics = Path("logs", f"{name}.csv")
        ip, port = address.split(":")
        self.namespace, self.address = namespace, address
        super().__init__(
            namespace, name, "sipp", "-sf", Path(__file__).with_name(f"{scenario}.xml"),
            "-i", ip, "-p", port, "-nostdin", "-cid_str", f"%u-%p-{name}",
            "-timer_resol", "10",
            "-trace_err", "-error_file", f"logs/{name}.errors",
            "-trace_stat", "-stf", self.statistics, "-fd", "1", *options,
        )

    def until_it_listens(self):
        sockets = ("ip", "netns", "exec", self.namespace, "ss", "-Hnul", "src", self.address)
        until(f"{self.name} listens", lambda: run(*sockets))

    def finish(self, seconds=PATIENCE):
        try:
            super().finish(seconds)
        except Failed as failed:
            errors = Path("logs", f"{self.name}.errors")
            said = errors.read_text(errors="replace") if errors.exists() else ""
            raise Failed(" ".join(f"{failed} {said}".split())[:300]) from None

    def count(self, column):
        names, *_, last = self.statistics.read_text().splitlines()
        return int(dict(zip(names.split(";"), last.split(";")))[column])


class Phone:
    """A baresip, told what to do and asked what happened by its ctrl_tcp."""

    def __init__(self, namespace, name, address, proxy, answers):
        self.name = name
        self.events, self.unread = [], b""
        ip, port = address.split(":")
        control = int(port) + 1000
        folder = Path(name)
        folder.mkdir()
        (folder / "contacts").touch()
        (folder / "config").write_text(
            f"sip_listen {address}\ncall_max_calls 4\n"
            "module_path /usr/lib/baresip/modules\n"
            # No module for sound: this is about what is said of the call.
            "module g711.so\n"
            "module_app account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n"
            f"ctrl_tcp_listen {ip}:{control}\n"
        )
        (folder / "accounts").write_text(
            f'<sip:{name}@farm.example>;outbound="sip:{proxy}";regint=120;'
            f"answermode={'auto' if answers else 'manual'}\n"
        )
        self.program = Program(namespace, name, "baresip", "-f", folder)
        self.program.until_said("baresip is ready")
        self.link = connect(namespace, (ip, control))

    def __str__(self):
        return self.name.capitalize()

    def tell(self, command, parameters=None):
        """Gives a command, and waits until it is done."""
        order = {"command": command, "params": parameters or "", "token": "order"}
        text = json.dumps(order).encode()
        self.link.sendall(b"%d:%s," % (len(text), text))
        answer = self.next(lambda e: e.get("response"), f"an answer to /{command}")
        if not answer["ok"]:
            raise Failed(f"{self}: /{command}: {answer['data'].strip()}")
        return answer["data"]

    def expect(self, kind, parameter=""):
        """Waits for an event; those before it are done with."""
        return self.next(
            lambda e: e.get("type") == kind and parameter in e.get("param", ""),
            f"{kind} {parameter}".strip(), forget=True,
        )

    def next(self, fits, what, forget=False):
        end = time.monotonic() + PATIENCE
        seen = 0
        while True:
            for index in range(seen, len(self.events)):
                if fits(self.events[index]):
                    event = self.events.pop(index)
                    if forget:
                        del self.events[:index]
                    return event
            seen = len(self.events)
            left = end - time.monotonic()
            if left <= 0:
                last = ", ".join(f"{e['type']} {e.get('param', '')}".strip()
                                 for e in self.events if e.get("class") == "call")
                raise Failed(f"{self}: no {what} within {PATIENCE} s"
                             + (f" (but {last})" if last else ""))
            self.read(left)

    def read(self, seconds):
        if not select.select([self.link], [], [], seconds)[0]:
            return
        octets = self.link.recv(65536)
        if not octets:
            raise Failed(f"{self} has ended: {self.program.log}")
        self.unread += octets
        # Netstrings: LENGTH:TEXT,
        while match := re.match(rb"(\d+):", self.unread):
            end = match.end() + int(match[1])
            if len(self.unread) <= end:
                break
            self.events.append(json.loads(self.unread[match.end():end]))
            self.unread = self.unread[end + 1:]

    def rest(self):
        """Ends whatever call there is, and forgets all that happened."""
        for _ in range(4):
            if "(0)" in self.tell("listcalls"):
                break
            self.tell("hangup")
        self.read(0)
        self.events.clear()


def connect(namespace, address):
    """A TCP connection that begins in another namespace."""
    with open("/proc/self/ns/net") as home, open(f"/run/netns/{namespace}") as there:
        if LIBC.setns(there.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        try:
            return socket.create_connection(address, timeout=PATIENCE)
        finally:
            LIBC.setns(home.fileno(), CLONE_NEWNET)
