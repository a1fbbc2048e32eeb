"""Debian's nginx with a configuration, pid and logs of its own; workers run as www-data."""

import os
import re
import signal
import time
from pathlib import Path

from .process import children, end, free_port, is_running, run, wait_until
from .stage import OTHER_NGINX

NGINX = f"{OTHER_NGINX}/nginx" if OTHER_NGINX else "/usr/sbin/nginx"
MODULES = f"{OTHER_NGINX}/modules" if OTHER_NGINX else "/usr/lib/nginx/modules"
STREAM = f"{MODULES}/ngx_stream_module.so"
MAIL = f"{MODULES}/ngx_mail_module.so"
# Each of nginx's modules has a list by the same name; what is left at the exit, nginx leaves.
SANITIZERS = {"ASAN_OPTIONS": "detect_odr_violation=0:detect_leaks=0"} if OTHER_NGINX else {}
WORKERS = 2

CONFIGURATION = """
{module}
user www-data;
worker_processes {workers};
pid {directory}/nginx.pid;
error_log {directory}/error.log {log_level};
{environment}
events {{ {events} }}
http {{
    access_log off;
    client_body_temp_path {directory}/tmp/body;
    proxy_temp_path {directory}/tmp/proxy;
    fastcgi_temp_path {directory}/tmp/fastcgi;
    uwsgi_temp_path {directory}/tmp/uwsgi;
    scgi_temp_path {directory}/tmp/scgi;
    ssl_session_cache off;
    ssl_session_tickets off;
    {extra}
    {servers}
}}
"""

SERVER = """
    server {{
        listen 127.0.0.1:{port} {listen};
        server_name {name};
        ssl_protocols TLSv1.2 TLSv1.3;
        {lines}
        location / {{ return 200 "served $server_name\\n"; }}
    }}
"""


def no_module(stage):
    """Why nginx cannot have Immure's module, or ""."""
    if not stage.nginx_module.exists():
        return "the nginx module was not built: nginx-dev is not here"
    return stage.other_libcrypto(NGINX)


def module_lines(stage, socket, timeout_ms=None):
    """What a user writes to load Immure's module."""
    timeout = f"immure_timeout {timeout_ms}ms;\n" if timeout_ms else ""
    return f"load_module {stage.nginx_module};\nimmure_socket {socket};\n{timeout}"


def certificate_lines(*keys, named=lambda key: key.reference):
    """`named` says what nginx.conf calls the key."""
    return "".join(f"ssl_certificate {k.certificate}; ssl_certificate_key '{named(k)}';\n" for k in keys)


def nginx_version():
    return tuple(map(int, re.search(r"nginx/([\d.]+)", run(NGINX, "-v").text)[1].split(".")))


def has_engines():
    """An nginx that was built without them refuses the directive, whichever engine it names."""
    said = run(NGINX, *"-t -g ssl_engine\tnone; -c /dev/null -e /dev/null".split(" "), status=None).text
    return '"ssl_engine" directive is not supported' not in said


def is_shutting_down(worker):
    try:
        return b"is shutting down" in Path(f"/proc/{worker}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for_shutdown(workers):
    """Until they were told to end, as their titles say, and those that wait for nothing have."""
    wait_until(lambda: all(map(is_shutting_down, workers)), "the old workers' titles")
    time.sleep(0.3)


class Nginx:
    """`start()` starts it with `servers`: pairs of server name and lines for its block."""

    events = "worker_connections 512;"
    listen = "ssl"  # of the first server; the others have the same socket
    log_level = "info"
    extra = ""  # lines of the http block

    def __init__(self, stage, directory, openssl_conf, module="", workers=None, env=None):
        """`module`: the lines that load Immure's module, in place of `openssl_conf`. `env`: what
        the environment of nginx and its workers has besides."""
        self.directory = directory
        (directory / "tmp").mkdir(parents=True)
        self.worker_count = workers or WORKERS
        self.extra_env = env or {}
        self.env = stage.host_env(openssl_conf) | SANITIZERS | self.extra_env
        self.module = module
        if module:
            del self.env["OPENSSL_CONF"]
            self.env["OPENSSL_MODULES"] = str(stage.provider.parent)
        self.conf = directory / "nginx.conf"
        self.pid_file = directory / "nginx.pid"
        self.port = free_port()

    def configure(self, *servers):
        names = ("OPENSSL_CONF", "OPENSSL_MODULES", "LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS")
        passed_on = [name for name in (*names, *self.extra_env) if name in self.env]
        self.conf.write_text(
            CONFIGURATION.format(
                module=self.module,
                workers=self.worker_count,
                directory=self.directory,
                log_level=self.log_level,
                events=self.events,
                extra=self.extra,
                environment="".join(f"env {name};\n" for name in passed_on),
                servers="".join(
                    SERVER.format(
                        port=self.port, listen="ssl" if i else self.listen, name=name, lines=lines
                    )
                    for i, (name, lines) in enumerate(servers)
                ),
            )
        )
        return self

    def edit(self, old, new):
        """Changes the configuration, in which `old` must be."""
        text = self.conf.read_text()
        assert old in text, f"no {old!r} in:\n{text}"
        self.conf.write_text(text.replace(old, new))
        return self

    def log_requests(self, line):
        """`line`, with nginx's variables, is written to the access log for each request."""
        log = f"log_format e2e '{line}'; access_log {self.directory}/access.log e2e;"
        return self.edit("access_log off;", log)

    def requests(self, count):
        """The access log's lines, as soon as there are so many."""
        log = self.directory / "access.log"
        return wait_until(
            lambda: len(lines := log.read_text().splitlines()) >= count and lines,
            f"{count} lines in the access log",
        )

    def add_stream(self, servers):
        """A stream block; nginx's module for it is loaded first."""
        text = self.conf.read_text()
        self.conf.write_text(f"load_module {STREAM};\n{text}stream {{ {servers} }}\n")
        return self

    def command(self, *arguments, status=0, timeout=60):
        return run(
            *(NGINX, "-p", f"{self.directory}/", "-e", self.directory / "error.log"),
            *("-c", self.conf, *arguments), env=self.env, status=status, timeout=timeout,
        )

    def test(self, status=0, timeout=60):
        return self.command("-t", status=status, timeout=timeout).text

    def start(self):
        self.command()
        wait_until(lambda: self.pid() and len(self.workers()) == self.worker_count, "nginx's workers")
        return self

    def pid(self, suffix=""):
        try:
            text = Path(f"{self.pid_file}{suffix}").read_text().strip()
        except FileNotFoundError:
            return None
        return int(text) if text else None

    def workers(self, pid=None):
        return children(pid or self.pid())

    def is_up(self):
        return bool(self.pid()) and is_running(self.pid())

    def signal(self, name, pid=None):
        os.kill(pid or self.pid(), getattr(signal, name))

    def reload(self):
        """nginx -s reload, and waits until every old worker has been asked to go."""
        before = set(self.workers())
        self.command("-s", "reload")
        wait_until(lambda: len(set(self.workers()) - before) == self.worker_count, "new workers")

    def wait_for_old_workers(self):
        """After a reload: until those are gone that were asked to go."""
        wait_until(lambda: len(self.workers()) == self.worker_count, "end of old workers")

    def start_new_master(self):
        """As for an upgrade of the binary; returns the old master's number, when the new one is up."""
        old = self.pid()
        self.signal("SIGUSR2")
        wait_until(lambda: self.pid(".oldbin") == old and self.pid(), "the new master")
        wait_until(lambda: len(self.workers()) == self.worker_count, "the new master's workers")
        return old

    def stop(self):
        for pid in (self.pid(".oldbin"), self.pid()):
            if pid and is_running(pid):
                end(pid, signal.SIGTERM)
        self.check_sanitizers()

    def check_sanitizers(self):
        """What they say of nginx goes to its error log."""
        assert not re.search("Sanitizer|runtime error: ", self.log()), self.log()

    def log(self):
        path = self.directory / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""
